//! New pods go elsewhere, but for those that tolerate it; those that run stay.

use super::{
    host::Host,
    lease::{Survey, failed},
};
use crate::engine::{
    command::Act,
    lease::{Knob, Turn},
};

const DEFAULT: &str = "healer.dev/sick:NoSchedule";
/// Of a label's value, which a taint's is (validation.go, IsValidLabelValue).
const LONGEST: usize = 63;

pub(super) fn survey(act: &Act, host: &dyn Host) -> Survey {
    let node = host.node().map_err(failed)?;
    let taint = act.rung.terms.taint.clone().unwrap_or_else(|| DEFAULT.to_owned());
    // The key makes it ours: a taint of somebody else is not taken back.
    let set = format!("set by healer ({})", value(&act.key.0));
    Ok(vec![Turn { knob: Knob::Taint { node, taint }, was: "absent".to_owned(), set }])
}

/// Its end tells keys apart.
fn value(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let kept: Vec<char> = key.chars().map(plain).collect();
    let end: String = kept[kept.len().saturating_sub(LONGEST)..].iter().collect();
    end.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_one_that_the_server_takes() {
        assert_eq!(value("7.100/supervise/web:down@2"), "7-100-supervise-web-down-2");
        assert_eq!(value(&format!("x{}/a", "-".repeat(80))), "a");
        assert_eq!(value(&"k".repeat(80)).len(), LONGEST);
    }
}
