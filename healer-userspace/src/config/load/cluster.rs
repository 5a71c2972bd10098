//! Policies that Kubernetes keeps, beside the files: each is judged alone, and a bad one stops none of the others.

use std::path::PathBuf;

use super::{Kind, Loading, Placed, Policy, Problems, position, who};

/// As a file would have it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FromCluster {
    pub name: String,
    /// The server counts changes of the spec.
    pub generation: i64,
    pub text: String,
}

/// What became of it on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub name: String,
    pub generation: i64,
    /// Every problem with its line.
    pub refused: Option<String>,
}

impl Loading<'_> {
    /// After the files: whoever clashes with one of them is left out.
    pub(super) fn cluster(&mut self, policies: &[FromCluster]) -> Vec<Verdict> {
        let judged = policies.iter().map(|one| {
            let refused = self.add(one).err();
            Verdict { name: one.name.clone(), generation: one.generation, refused }
        });
        judged.collect()
    }

    fn add(&mut self, one: &FromCluster) -> Result<(), String> {
        let file = PathBuf::from(format!("HealPolicy/{}", one.name));
        let mut alone = Loading::new(self.supported);
        alone.text(&file, &one.text, &[Kind::HealPolicy]);
        if !alone.problems.is_empty() {
            return Err(Problems(alone.problems).to_string());
        }
        if let Some(clash) = alone.policies.iter().find_map(|later| self.clash(&later.value)) {
            return Err(clash);
        }
        self.digest_of(&one.text);
        self.policies.append(&mut alone.policies);
        self.warnings.append(&mut alone.warnings);
        self.demanding.append(&mut alone.demanding);
        Ok(())
    }

    fn clash(&self, later: &Policy) -> Option<String> {
        let same =
            |first: &&Placed<Policy>| first.value.name == later.name || who(&first.value) == who(later);
        let first = self.policies.iter().find(same)?;
        let (other, at) = (&first.value.name, position(&first.at));
        Some(if *other == later.name {
            format!("a policy named {other:?} exists already on this node ({at})")
        } else {
            format!("policy {other:?} has the same match: neither could own it ({at})")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    fn from(name: &str, spec: &str) -> FromCluster {
        let text = format!(
            "apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata:\n  name: {name}\nspec:\n  {spec}\n"
        );
        FromCluster { name: name.to_owned(), generation: 1, text }
    }

    #[test]
    fn a_bad_one_is_left_out_and_told_with_its_line() {
        let cluster = [
            from("bad", "mode: enforced"),
            from("good", "match: {comm: web}"),
            from("twin", "match: {comm: [web]}"),
            from("good", "match: {comm: other}"),
        ];
        let loaded = load_with(&Sources::default(), &cluster, &|_| true).unwrap();
        let names: Vec<&str> = loaded.policies.policies.iter().map(|policy| policy.name.as_str()).collect();
        assert!(names.ends_with(&["good"]), "{names:?}");
        let refused: Vec<_> = loaded.verdicts.iter().map(|verdict| verdict.refused.clone()).collect();
        assert!(
            refused[0].as_ref().unwrap().contains("HealPolicy/bad:6:9: mode: unknown word"),
            "{refused:?}"
        );
        assert_eq!(refused[1], None);
        assert!(refused[2].as_ref().unwrap().contains("the same match"), "{refused:?}");
        assert!(refused[3].as_ref().unwrap().contains("exists already"), "{refused:?}");
        let alone = load_with(&Sources::default(), &[], &|_| true).unwrap();
        assert_ne!(alone.policies.version, loaded.policies.version);
    }
}
