use proptest::prelude::*;

use super::*;

fn catalog() -> Catalog {
    Catalog { run: "a1".into(), services: 12, instances: 3 }
}

proptest! {
    #[test]
    fn a_name_leads_back_to_its_number(instance in 0u32..36) {
        let catalog = catalog();
        let service = catalog.service(catalog.service_of(instance));
        prop_assert_eq!(catalog.instance_number(&service, &catalog.instance(instance)), Some(instance));
        prop_assert_eq!(catalog.service_number(&service), Some(catalog.service_of(instance)));
        prop_assert!(catalog.of_service(catalog.service_of(instance)).contains(&instance));
    }
}

#[test]
fn names_of_others_have_no_number() {
    let catalog = catalog();
    for name in
        ["orders", "fleet-a1-12", "fleet-a10-1", "fleet-a1-", "fleet-a1-+1", "fleet-a1-01", "fleet-b-1"]
    {
        assert_eq!(catalog.service_number(name), None, "{name}");
    }
    assert_eq!(catalog.instance_number("fleet-a1-1", "i3"), None);
    assert_eq!(catalog.instance_number("fleet-a1-1", "x"), None);
}

#[test]
fn runs_that_break_the_rules_of_names_are_refused() {
    assert!(catalog().is_valid());
    for run in ["", "a-b", "ü", &"x".repeat(33)] {
        assert!(!Catalog { run: run.into(), ..catalog() }.is_valid(), "{run}");
    }
    assert!(!Catalog { services: 0, ..catalog() }.is_valid());
    assert!(!Catalog { services: u32::MAX, instances: 2, ..catalog() }.is_valid());
}
