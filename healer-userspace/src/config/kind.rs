//! `when.kind`: what some classes tell apart.

use serde::Deserialize;

use crate::engine::class::Class;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal of $($class:ident)|+,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum KindName { $($(#[$doc])* $kind,)* }

        impl KindName {
            const ALL: &[Self] = &[$(Self::$kind,)*];

            /// As diagnoses have it.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            fn classes(self) -> &'static [Class] {
                match self { $(Self::$kind => &[$(Class::$class),+],)* }
            }
        }
    };
}

kinds! {
    Unresponsive = "unresponsive" of Hang,
    Spinning = "spinning" of Hang,
    /// Others in its network namespace are well.
    Workload = "workload" of NetworkIsolation,
    Netns = "netns" of NetworkIsolation,
    Node = "node" of NetworkIsolation,
    Refuses = "refuses" of DependencyFailure,
    Unreachable = "unreachable" of DependencyFailure,
    NoAnswer = "no_answer" of DependencyFailure,
    Uninterruptible = "uninterruptible" of Unkillable,
    /// Held by the freezer of cgroup v1; of a peer, that it takes connections and reads nothing.
    Frozen = "frozen" of Unkillable | DependencyFailure,
    /// It does not answer questions for names.
    Dns = "dns" of DependencyFailure,
    /// It is well; connections from before stay dead.
    Stale = "stale" of DependencyFailure,
}

impl KindName {
    /// Why this is no kind of `class`, if it is none.
    pub(super) fn unless_of(self, class: Class) -> Option<String> {
        if self.classes().contains(&class) {
            return None;
        }
        let of_it: Vec<_> =
            Self::ALL.iter().filter(|kind| kind.classes().contains(&class)).map(|kind| kind.name()).collect();
        let known = if of_it.is_empty() { "it has none".to_owned() } else { of_it.join(", ") };
        Some(format!("kind: {} is no kind of class {class}: {known}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_belongs_to_one_class() {
        assert_eq!(KindName::Netns.unless_of(Class::NetworkIsolation), None);
        let wrong = KindName::Netns.unless_of(Class::Hang).unwrap();
        assert_eq!(wrong, "kind: netns is no kind of class hang: unresponsive, spinning");
        assert!(KindName::Netns.unless_of(Class::Down).unwrap().ends_with("it has none"));
    }
}
