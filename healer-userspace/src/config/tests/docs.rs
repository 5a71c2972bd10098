//! What is written about the language is true.

use std::{fs, path::Path};

use super::{
    super::{Kind, files, load, schema},
    check, everything, with_spec,
};

#[test]
fn every_example_and_every_block_of_the_readme_is_a_policy() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let examples = files::expand(&[policies.join("examples")]).unwrap();
    assert!(examples.len() >= 4);
    if let Err(problems) = load::check(&examples, &everything) {
        panic!("{problems}");
    }
    let readme = fs::read_to_string(policies.join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 3, "{}", blocks.len());
    for block in blocks {
        let text = if block.contains("apiVersion") { block.to_owned() } else { with_spec(block) };
        if let Err(problems) = check("readme", &text) {
            panic!("{problems}");
        }
    }
}

/// Each key and word of the schema has its line in the README.
#[test]
fn the_readme_has_every_word() {
    fn words(schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            found.extend(properties.keys().cloned());
            properties.values().for_each(|inner| words(inner, found));
        }
        found.extend(
            schema["enum"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|word| word.as_str().map(str::to_owned)),
        );
        if schema["items"].is_object() {
            words(&schema["items"], found);
        }
    }
    let readme = include_str!("../../../policies/README.md");
    let mut found = Vec::new();
    for kind in Kind::ALL {
        words(&schema::json(kind), &mut found);
    }
    let missing: Vec<_> = found.iter().filter(|word| !readme.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
