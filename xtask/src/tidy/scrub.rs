//! Rust source with its comments and literals blanked, so that rules read code only.

/// The source with every comment, string and character literal replaced by spaces.
/// Line breaks stay, so that line numbers do too.
pub(crate) fn code_only(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        let in_word = before.is_alphanumeric() || before == '_';
        match literal_length(rest, in_word) {
            Some(length) => {
                let (blanked, after) = rest.split_at(length.min(rest.len()));
                out.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                (rest, before) = (after, ' ');
            }
            None => {
                out.push(next);
                (rest, before) = (&rest[next.len_utf8()..], next);
            }
        }
    }
    out
}

/// The string literals of the source, without their quotes, and the lines they begin on.
pub(crate) fn strings(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut at, mut before) = (0, ' ');
    while let Some(next) = source[at..].chars().next() {
        let rest = &source[at..];
        let in_word = before.is_alphanumeric() || before == '_';
        let length = literal_length(rest, in_word).map(|length| length.min(rest.len()));
        if let Some(length) = length.filter(|_| next == '"') {
            let line = 1 + source[..at].matches('\n').count();
            found.push((line, rest[..length].trim_matches('"')));
        }
        before = if length.is_some() { ' ' } else { next };
        at += length.unwrap_or(next.len_utf8());
    }
    found
}

/// How long the comment or literal is that `rest` begins with, if it does.
fn literal_length(rest: &str, in_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if let Some(body) = rest.strip_prefix('"') {
        return Some(1 + until_quote(body, '"'));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    if in_word {
        return None;
    }
    let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let closed = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + closed)
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn until_quote(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    body.len()
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = &rest[1..];
    let first = body.chars().next()?;
    if first == '\\' {
        return Some(1 + until_quote(body, '\''));
    }
    body[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        let code = code_only(source);
        code.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_literals_go_and_code_stays() {
        assert_eq!(words("a // b\nc"), ["a", "c"]);
        assert_eq!(words("a /* b /* c */ d */ e"), ["a", "e"]);
        assert_eq!(words(r#"a "b \" c" d"#), ["a", "d"]);
        assert_eq!(words("a r#\"b \" c\"# d"), ["a", "d"]);
        assert_eq!(words("a 'b' '\\'' '\"' c"), ["a", "c"]);
    }

    #[test]
    fn lifetimes_and_names_ending_in_r_are_code() {
        assert_eq!(words("&'a str, 'b: loop"), ["&'a", "str,", "'b:", "loop"]);
        assert_eq!(words("for\"x\" y"), ["for", "y"]);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let code = code_only("\"one\ntwo\"\nthree /*\n*/ four");
        assert_eq!(code.lines().count(), 4);
        assert!(code.lines().nth(3).unwrap().contains("four"));
    }

    #[test]
    fn unfinished_literals_end_with_the_file() {
        for source in ["\"a", "r#\"a", "/* a", "'", "'\\", "b", "br"] {
            assert_eq!(code_only(source).len(), source.len());
        }
    }

    #[test]
    fn strings_come_with_their_lines() {
        assert_eq!(strings("a(\"b\",\n // \"c\"\n \"d\")"), [(1, "b"), (3, "d")]);
    }
}
