//! Needs root.
use std::{thread, time::Duration};
use healer_userspace::{clock, sense::{Sense, Settings}};

#[test]
fn smoke() {
    let mut sense = Sense::start(&Settings::default());
    for s in sense.sensors() { println!("{s:?}"); }
    let mut scan = sense.take_task_scan().unwrap();
    for i in 0..8 {
        let t = clock::boot();
        let pass = scan.pass(Duration::from_millis(200)).unwrap();
        println!("{i}: {:?} full={} n={}", clock::boot().since(t), pass.is_full, pass.records.len());
        if i == 1 { for r in pass.records.iter().take(5) { println!("{r:?} {:?}", String::from_utf8_lossy(&r.comm)); } }
        thread::sleep(Duration::from_millis(250));
    }
}
