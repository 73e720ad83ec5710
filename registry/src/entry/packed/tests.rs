use proptest::{collection::btree_map, option, prelude::*};

use super::*;

fn record() -> impl Strategy<Value = Record> {
    let free = "[ -~äß\u{1F980}]{0,20}";
    let texts = (
        "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}",
        "http://host-[0-9]{1,3}(:8080)?(/[a-z]{1,9}(\\?q='[0-9]')?)?",
        "/[!-~ä]{0,40}",
    );
    let metadata = btree_map("[A-Za-z0-9_.-]{1,9}", free, 0..4);
    let rare = (option::of(free), option::of(free), option::of(free));
    let more = (option::of("[!-~ß]{1,64}"), 3u64..3600, 0.0..2e9, option::of("[0-9.:a-f]{3,15}"));
    let status = prop_oneof![Just(Status::Passing), Just(Status::Warning), Just(Status::Critical)];
    (texts, metadata, rare, more, status).prop_filter_map("in order", |(texts, pairs, rare, more, status)| {
        let mut metadata = Metadata::default();
        for (key, value) in pairs {
            metadata.insert(&key, &value).ok()?;
        }
        Some(Record {
            service_name: texts.0.parse().ok()?,
            instance_id: texts.1.parse().ok()?,
            endpoint: texts.2.parse().ok()?,
            health_endpoint: texts.3.parse().ok()?,
            metadata,
            ttl_seconds: Ttl::try_from(more.1).ok()?,
            session: more.0.map(|text| text.parse()).transpose().ok()?,
            status,
            output: rare.0.map(|text| text.parse()).transpose().ok()?,
            operator_drain: rare.1.map(|text| text.parse()).transpose().ok()?,
            session_drain: rare.2.map(|text| text.parse()).transpose().ok()?,
            registered_at: more.2,
            observed_address: more.3,
        })
    })
}

proptest! {
    #[test]
    fn what_was_packed_comes_out_again(record in record()) {
        let packed = Packed::from(&record);
        prop_assert_eq!(&packed.record(), &record);
        prop_assert!(packed == record && packed == packed.clone());
        prop_assert_eq!(packed.key(), record.key());
        prop_assert_eq!(packed.session(), record.session.as_ref().map(Session::as_str));
        prop_assert_eq!(packed.observed_address(), record.observed_address.as_deref());
        prop_assert_eq!((packed.draining(), packed.usable()), (record.draining(), record.usable()));
        prop_assert_eq!((packed.output(), packed.drain_reason()), (record.output.as_ref(), record.drain_reason()));
        for (key, value) in record.metadata.iter() {
            prop_assert!(packed.says(&Pair::new(key, value)));
            let longer = format!("{value}+");
            prop_assert!(!packed.says(&Pair::new(key, &longer)));
        }
    }

    #[test]
    fn whoever_differs_is_packed_otherwise(one in record(), other in record()) {
        let packed = Packed::from(&one);
        prop_assert_eq!(packed == other, one == other);
    }
}

#[test]
fn a_value_that_looks_like_a_pair_is_none() {
    let mut metadata = Metadata::default();
    metadata.insert("a", "\",\"b\":\"1").unwrap();
    let record = Record {
        metadata,
        ..Record::new(
            Key { service: "s".parse().unwrap(), instance: "i".parse().unwrap() },
            "http://h:1".parse().unwrap(),
        )
    };
    let packed = Packed::from(&record);
    assert!(!packed.says(&Pair::new("b", "1")) && packed.says(&Pair::new("a", "\",\"b\":\"1")));
    assert!(!packed.says(&Pair::new("endpoint", "http://h:1")) && !packed.says(&Pair::new("a", "")));
}
