//! Prometheus text format 0.0.4 from OpenMetrics text.
//!
//! The metrics library writes OpenMetrics only, where a counter's type is declared without the
//! suffix `_total`; `promtool check metrics` and older scrapers count that as an error.

/// `text` is what `prometheus_client::encoding::text::encode` wrote.
pub fn from_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut help = None;
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("# HELP ") {
            help = of.split_once(' ');
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            push_head(&mut out, of, help.take());
        } else if !line.starts_with('#') {
            out.push_str(without_exemplar(line));
            out.push('\n');
        }
    }
    out
}

fn push_head(out: &mut String, name_and_type: &str, help: Option<(&str, &str)>) {
    let Some((name, kind)) = name_and_type.split_once(' ') else {
        return;
    };
    let (suffix, kind) = match kind {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        other => ("", other),
    };
    if let Some((_, help)) = help.filter(|(of, _)| *of == name) {
        let help = help.replace("\\\"", "\"");
        out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
    }
    out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
}

/// Cuts ` # {…} value` behind a sample; a `#` inside a quoted label value stays.
fn without_exemplar(sample: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (index, byte) in sample.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return sample[..index].trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_renamed_and_openmetrics_only_lines_go() {
        let openmetrics = "\
# HELP x_signals Signals \\\"seen\\\".
# TYPE x_signals counter
x_signals_total{signal=\"a # {b\\\" # \"} 3 # {trace=\"1\"} 1.0 12.5
# HELP x_took_seconds Time.
# TYPE x_took_seconds histogram
# UNIT x_took_seconds seconds
x_took_seconds_sum 0.5
x_took_seconds_count 1
x_took_seconds_bucket{le=\"+Inf\"} 1
# HELP x_build Version.
# TYPE x_build info
x_build_info{version=\"1\"} 1
# HELP x_odd Odd.
# TYPE x_odd unknown
x_odd 1
# EOF
";
        assert_eq!(
            from_openmetrics(openmetrics),
            "\
# HELP x_signals_total Signals \"seen\".
# TYPE x_signals_total counter
x_signals_total{signal=\"a # {b\\\" # \"} 3
# HELP x_took_seconds Time.
# TYPE x_took_seconds histogram
x_took_seconds_sum 0.5
x_took_seconds_count 1
x_took_seconds_bucket{le=\"+Inf\"} 1
# HELP x_build_info Version.
# TYPE x_build_info gauge
x_build_info{version=\"1\"} 1
# HELP x_odd Odd.
# TYPE x_odd untyped
x_odd 1
"
        );
    }
}
