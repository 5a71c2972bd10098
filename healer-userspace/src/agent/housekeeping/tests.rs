use super::*;
use crate::{agent::meet::tests::exe_policy, identity::fixture::Tree};

#[test]
fn a_file_that_an_upgrade_has_replaced_is_watched_from_then_on() {
    let tree = Tree::new();
    let path = tree.file("bin/server", "v1");
    let policies = exe_policy(&path);
    let before = inodes(&policies);
    assert_eq!(before, BTreeSet::from([ExeId::at(&path).unwrap().ino]));
    // As package managers do: the new file beside the old one, then renamed over it.
    let new = tree.file("bin/server.new", "v2");
    std::fs::rename(&new, &path).unwrap();
    let after = inodes(&policies);
    assert_eq!(after, BTreeSet::from([ExeId::at(&path).unwrap().ino]));
    assert!(before.is_disjoint(&after));
    std::fs::remove_file(&path).unwrap();
    assert!(inodes(&policies).is_empty());
}
