//! Who depends on whom, as a picture: the one who suffers, the connection, and who does not answer.

use serde_json::Value;

use super::safe;
use crate::report::incidents::Incident;

/// Empty for what is no matter of two.
pub(super) fn svg(incident: &Incident) -> String {
    let proofs = incident.timeline.iter().rev().filter_map(|record| {
        let proof = record.get("detail")?.get("proof")?;
        Some((
            record,
            proof.get("peer")?.as_str()?,
            proof.get("kind").and_then(Value::as_str).unwrap_or_default(),
        ))
    });
    let Some((diagnosis, peer, kind)) = proofs.into_iter().next() else { return String::new() };
    let target = diagnosis.get("target").map(named).unwrap_or_default();
    let server = diagnosis.get("related").and_then(|related| related.get(0)).map(named);
    let server = server.unwrap_or_else(|| "nobody on this machine".to_owned());
    // Of two lines each: a phone shows all of it.
    format!(
        "<svg class=\"edge\" role=\"img\" aria-label=\"who depends on whom\" xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 360 200\">\n<rect x=\"60\" y=\"4\" width=\"240\" height=\"44\" rx=\"6\"/>\n\
         <text x=\"180\" y=\"31\">{target}</text>\n\
         <path d=\"M180 48V140M174 130L180 140L186 130\"/>\n<text x=\"180\" y=\"98\" class=\"why\">{kind}</text>\n\
         <rect x=\"60\" y=\"142\" width=\"240\" height=\"54\" rx=\"6\" class=\"sick\"/>\n\
         <text x=\"180\" y=\"166\">{server}</text>\n<text x=\"180\" y=\"185\">{peer}</text>\n</svg>\n",
        target = safe(&target),
        kind = safe(kind),
        server = safe(&server),
        peer = safe(peer),
    )
}

fn named(process: &Value) -> String {
    let comm = process.get("comm").and_then(Value::as_str).unwrap_or("?");
    let pid = process.get("pid").and_then(Value::as_u64);
    pid.map_or_else(|| comm.to_owned(), |pid| format!("{comm}[{pid}]"))
}
