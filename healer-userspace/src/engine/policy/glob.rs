//! `*` matches within one part of a path, `**` crosses parts; every other character is itself.

/// Whether the whole of `text` matches. Linear for each star: a failed try resumes at the last star that can
/// still take one character more. An earlier star of the same kind need not be tried again, because the later
/// one can take whatever the earlier would have.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    let mut narrow: Option<Star> = None;
    let mut wide: Option<Star> = None;
    loop {
        match pattern.get(at) {
            Some(b'*') => {
                let stars = pattern[at..].iter().take_while(|&&byte| byte == b'*').count();
                at += stars;
                let star = Some(Star { after: at, taken_to: seen });
                if stars > 1 {
                    (wide, narrow) = (star, None);
                } else {
                    narrow = star;
                }
                continue;
            }
            Some(byte) if text.get(seen) == Some(byte) => {
                at += 1;
                seen += 1;
                continue;
            }
            None if seen == text.len() => return true,
            Some(_) | None => {}
        }
        let takes_more =
            narrow.take_if(|star| text.get(star.taken_to).is_none_or(|&byte| byte == b'/')).is_none();
        let star = if takes_more && narrow.is_some() { &mut narrow } else { &mut wide };
        let Some(star) = star.as_mut().filter(|star| star.taken_to < text.len()) else {
            return false;
        };
        star.taken_to += 1;
        (at, seen) = (star.after, star.taken_to);
    }
}

/// Where the pattern goes on after a star, and how far in the text the star reaches.
struct Star {
    after: usize,
    taken_to: usize,
}

/// Has it a star at all?
pub fn is_glob(pattern: &str) -> bool {
    pattern.contains('*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[test]
    fn one_star_stays_in_its_part_and_two_cross() {
        let yes = [
            ("/system.slice/*.service", "/system.slice/web.service"),
            ("/kubepods*/**", "/kubepods.slice/burstable/pod1/abc"),
            ("**/web", "/a/b/web"),
            ("**", ""),
            ("*", "web"),
            ("a*b*c", "axxbyybzzc"),
            ("**/x*/y", "/x/q/x1/y"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        let no = [
            ("/system.slice/*", "/system.slice/a/b"),
            ("*", "a/b"),
            ("web", "web2"),
            ("web", "we"),
            ("", "a"),
            ("**/web", "/a/web/b"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    /// The definition, in the plainest form; exponential.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|taken| defined(rest, &text[taken..])),
            [b'*', rest @ ..] => {
                let reach = text.iter().take_while(|&&byte| byte != b'/').count();
                (0..=reach).any(|taken| defined(rest, &text[taken..]))
            }
            [byte, rest @ ..] => text.first() == Some(byte) && defined(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn agrees_with_its_definition(pattern in "[a/*]{0,9}", text in "[ab/]{0,12}") {
            prop_assert_eq!(matches(&pattern, &text), defined(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn everything_matches_itself_and_two_stars(text in "[^*]{0,40}") {
            prop_assert!(matches(&text, &text));
            prop_assert!(matches("**", &text));
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!matches(&pattern, &"a".repeat(4000)));
        let pattern = "**a*".repeat(100) + "b";
        assert!(!matches(&pattern, &"a/".repeat(2000)));
    }
}
