use super::*;

const NOW: BootTime = BootTime(0);

fn cordon(key: &str) -> Turn {
    let knob = Knob::Cordon { node: "n1".into() };
    Turn { knob, was: "open".into(), set: format!("cordoned by healer ({key})") }
}

/// As the engine takes it: joined, and in force.
fn take(leases: &mut Leases, key: &str, incident: u64) {
    let mut turns = vec![cordon(key)];
    leases.join(&mut turns);
    leases.take(Lease {
        key: ActionKey(key.into()),
        incident: IncidentId(incident),
        workload: WorkloadKey(format!("supervise/{key}")),
        action: ActionName::Cordon,
        turns,
        lasts: STANDS_FOR,
    });
    leases.taken(NOW, &ActionKey(key.into()), true);
}

fn release(leases: &mut Leases, key: &str) -> Vec<Turn> {
    let undo = leases.release(NOW, &ActionKey(key.into()), Why::Well).expect("it is in force");
    let undone = Undone { key: undo.key, says: String::new(), complete: true };
    leases.undone(NOW, &undone).expect("it was being undone");
    undo.turns
}

#[test]
fn a_cordon_of_two_incidents_ends_with_the_last_of_them() {
    for [first, last] in [["a", "b"], ["b", "a"]] {
        let mut leases = Leases::default();
        take(&mut leases, "a", 1);
        take(&mut leases, "b", 2);
        assert!(release(&mut leases, first).is_empty(), "{last} holds it");
        assert_eq!(release(&mut leases, last), [cordon("a")]);
        assert!(leases.all().is_empty());
    }
}

#[test]
fn who_comes_while_a_cordon_is_taken_back_does_not_hold_it() {
    let mut leases = Leases::default();
    take(&mut leases, "a", 1);
    leases.release(NOW, &ActionKey("a".into()), Why::Well).expect("it is in force");
    let mut turns = vec![cordon("b")];
    leases.join(&mut turns);
    assert_eq!(turns, [cordon("b")]);
}

#[test]
fn what_stands_on_after_a_death_is_known_until_it_is_taken_back() {
    let mut leases = Leases::default();
    take(&mut leases, "a", 1);
    take(&mut leases, "b", 2);
    let keys = |leases: &Leases| leases.left_over().map(|lease| lease.key.0.clone()).collect::<Vec<_>>();
    assert!(keys(&leases).is_empty());
    leases.leave_over(IncidentId(2));
    assert_eq!(keys(&leases), ["b"]);
    leases.release(NOW, &ActionKey("b".into()), Why::Well).expect("it is in force");
    assert!(keys(&leases).is_empty());
}

#[test]
fn what_docker_was_told_to_update_outlives_a_boot_and_a_pause_does_not() {
    let of = |of| Turn {
        knob: Knob::Container { socket: "/run/docker.sock".into(), id: "c".into(), of },
        was: "1".into(),
        set: "2".into(),
    };
    let file = Turn {
        knob: Knob::OomScoreAdj(crate::identity::process::ProcessId { pid: 7, start: NOW }),
        was: "0".into(),
        set: "1".into(),
    };
    let lease = |turns: Vec<Turn>| Lease {
        key: ActionKey("a".into()),
        incident: IncidentId(1),
        workload: WorkloadKey("container/web".into()),
        action: ActionName::RaiseLimit,
        turns,
        lasts: UNDO_AFTER,
    };
    let mixed = lease(vec![file.clone(), of(Account::MemoryMax), of(Account::Running)]);
    assert!(mixed.outlives_a_boot());
    assert_eq!(mixed.after_a_boot().turns, [of(Account::MemoryMax)]);
    assert!(!lease(vec![file, of(Account::Running)]).outlives_a_boot());
}
