use proptest::prelude::*;

use super::*;

fn limits(instances: u32, services: u32, instances_per_service: u32) -> Limits {
    Limits { instances, services, instances_per_service, ..Limits::NONE }
}

fn name(number: usize) -> ServiceName {
    format!("s{number}").parse().unwrap()
}

#[test]
fn each_cap_lets_the_last_in_and_nobody_more() {
    let room =
        |instances, services, of_service| Counts { instances, services, of_service }.room(&limits(10, 5, 3));
    assert_eq!(room(9, 4, 2), Ok(()));
    assert_eq!(room(10, 4, 2), Err(Cap::Instances(10)));
    assert_eq!(room(11, 4, 2), Err(Cap::Instances(10)));
    assert_eq!(room(9, 4, 3), Err(Cap::InstancesOfService(3)));
    assert_eq!(room(9, 4, 0), Ok(()));
    assert_eq!(room(9, 5, 0), Err(Cap::Services(5)));
    // A service that is there may grow when no other may come.
    assert_eq!(room(9, 5, 1), Ok(()));
    assert_eq!(room(9, 6, 1), Ok(()));
}

/// What there is and the batch's own registrations, in whatever order, never exceed a cap together, and nothing is
/// refused that would not.
#[test]
fn a_batch_fills_a_cap_to_the_last_place() {
    let there = |service: &ServiceName| (2, usize::from(["s0", "s1"].contains(&service.as_str())));
    let case = (1_u32..12, 1_u32..6, 1_u32..5, prop::collection::vec(0_usize..6, 0..40));
    proptest!(|((instances, services, of_service, wanted) in case)| {
        let limits = limits(instances, services, of_service);
        let bounds = Bounds::new(limits, 1, Arc::new(there));
        let mut room = Room::new(&bounds, 2);
        let mut counts: HashMap<usize, u32> = HashMap::from([(0, 1), (1, 1)]);
        for number in wanted {
            let of = counts.get(&number).copied().unwrap_or_default();
            let all: u32 = counts.values().sum();
            let kinds = u32::try_from(counts.len()).unwrap();
            let fits = all < instances && of < of_service && (of > 0 || kinds < services);
            prop_assert_eq!(room.take(&name(number)).is_ok(), fits);
            if fits {
                *counts.entry(number).or_default() += 1;
            }
        }
    });
}

#[test]
fn a_queue_of_pieces_is_full_to_the_last_one() {
    let bounds = Bounds::new(Limits::NONE, 4, Arc::new(|_| (0, 0)));
    let three = bounds.place(2 * PIECE).unwrap();
    assert_eq!(bounds.queue(), (4, 3));
    assert!(bounds.place(PIECE).is_none(), "two are too many");
    let one = bounds.place(PIECE - 1).unwrap();
    assert!(bounds.place(0).is_none());
    drop(one);
    assert!(bounds.place(0).is_some());
    drop(three);
    // What is larger than the whole queue has it for itself.
    let all = bounds.place(100 * PIECE).unwrap();
    assert_eq!(bounds.queue(), (4, 4));
    drop(all);
    assert_eq!(bounds.queue(), (4, 0));
}
