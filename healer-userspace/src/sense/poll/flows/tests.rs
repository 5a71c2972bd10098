use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use super::*;
use crate::signal::network::Stall;

fn poller() -> FlowPoller {
    FlowPoller::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"), Trouble::default())
}

fn look_for(poller: &mut FlowPoller, limit: u32, mut done: impl FnMut(&Look) -> bool) -> bool {
    for _ in 0..limit {
        if done(&poller.look(clock::boot()).0) {
            return true;
        }
        thread::sleep(Duration::from_millis(200));
    }
    false
}

#[test]
fn an_older_listener_and_who_answers_are_told_with_their_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(at).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    let mut poller = poller();
    let me = Some(std::process::id());
    let (mut is_heard, mut is_joined, mut has_trip) = (false, false, false);
    let found = look_for(&mut poller, 60, |look| {
        is_heard |= look.listeners.iter().any(|one| one.address == at && one.on && one.whose.pid == me);
        is_joined |= look.answers.iter().any(|one| one.peer == at && one.whose.pid == me);
        has_trip |= look.trips.iter().any(|one| one.peer == at && 0 < one.us);
        is_heard && is_joined && has_trip
    });
    assert!(found, "heard: {is_heard}, joined: {is_joined}, round trip: {has_trip}");
}

#[test]
fn what_is_not_read_is_told_of_the_client_and_over_when_it_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(at).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"hello").unwrap();
    let mut poller = poller();
    let is_it = |one: &Stuck| one.peer == at && one.why == Stall::Unread;
    assert!(look_for(&mut poller, 100, |look| look.stuck.iter().any(is_it)), "nobody reads");
    server.read_exact(&mut [0; 5]).unwrap();
    for _ in 0..10 {
        poller.look(clock::boot());
        thread::sleep(Duration::from_millis(200));
    }
    assert!(!look_for(&mut poller, 8, |look| look.stuck.iter().any(is_it)), "it was read");
}

#[test]
fn who_is_in_trouble_is_looked_at_again_soon_and_the_rest_seldom() {
    let cost = Duration::from_millis(20);
    assert_eq!(pause(cost, false, Duration::ZERO), Duration::from_secs(4));
    assert_eq!(pause(cost, true, Duration::ZERO), Duration::from_millis(500));
    let mut poller = poller();
    let now = clock::boot();
    poller.look(now);
    let own = Proc::new(Path::new("/proc")).net_namespace(std::process::id()).unwrap().0 as u32;
    let far = now + Duration::from_secs(60);
    // Its turn is far away, and looks at those that are well are used up.
    let place = poller.places.get_mut(&own).unwrap();
    (place.next, place.spell) = (far, Spell::default());
    poller.rests_until = [far, now];
    poller.trouble.tell(own);
    assert_eq!(poller.look(now + EVERY).1, SOON);
    assert!(poller.places[&own].next < far, "it was looked at");
}
