//! Reads as much of a shell script as it takes to say that a command's status is never asked for. Pure.
//!
//! Whatever is not understood counts as asking: silence is the safe answer. To print a status is not to ask.

use super::{Says, base};

/// How many of a process' arguments may name it: an interpreter, `env`, and the script.
const NAMES: usize = 3;
/// Words that run the rest of the line in their own process, and so are no names of it.
const PREFIXES: [&str; 6] = ["exec", "command", "nohup", "nice", "setsid", "env"];

/// `Restarts`: every place in which `text` runs the command stands plainly in an endless loop that nothing leaves.
pub(super) fn says(text: &str, args: &[String], exe: Option<&str>) -> Says {
    let names: Vec<&str> = args
        .iter()
        .take(NAMES)
        .map(String::as_str)
        .chain(exe)
        .map(base)
        .filter(|name| !name.is_empty())
        .collect();
    let mut reader = Reader { names, ..Reader::default() };
    for token in tokens(text) {
        reader.take(token);
    }
    reader.end_command(End::Plain);
    let places = if reader.by_name.is_empty() { &reader.by_variable } else { &reader.by_name };
    let all = |is: &dyn Fn(&Place) -> bool| !places.is_empty() && places.iter().all(is);
    if all(&|place| matches!(place, Place::Endless(id) if !reader.left.contains(id))) {
        Says::Restarts
    } else if all(&|place| *place == Place::UntilItEndsWell) {
        Says::UntilItEndsWell
    } else {
        Says::Nothing
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// Newline, `;`, `&`, a parenthesis or brace.
    Separator,
    Pipe,
    AndOr,
}

/// Where a command stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Plainly in this endless loop.
    Endless(usize),
    /// `until COMMAND` and `while ! COMMAND`.
    UntilItEndsWell,
    Elsewhere,
}

/// How a simple command ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Plain,
    Pipe,
    AndOr,
}

#[derive(Default)]
struct Reader<'a> {
    names: Vec<&'a str>,
    frames: Vec<Frame>,
    command: Vec<String>,
    /// The command before this one ended with `&&` or `||`.
    is_chained: bool,
    is_negated: bool,
    /// Variables that hold a status.
    statuses: Vec<String>,
    /// A status goes through a pipe into this command.
    is_told: bool,
    /// The command before this one, if it is ours and `||` follows: where it stands if that is `|| true`.
    before_or: Option<(bool, Place)>,
    loops: usize,
    /// Loops with a word in them that may leave them or look at a status.
    left: Vec<usize>,
    /// Each place that runs the command.
    by_name: Vec<Place>,
    by_variable: Vec<Place>,
}

struct Frame {
    kind: Kind,
    in_condition: bool,
    is_endless: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    While,
    Until,
    For,
    Loop(usize),
    If,
    Case,
}

impl Reader<'_> {
    fn take(&mut self, token: Token) {
        match token {
            Token::Word(word) if self.command.is_empty() && self.keyword(&word) => {}
            Token::Word(word) => self.command.push(word),
            Token::Separator => self.end_command(End::Plain),
            Token::Pipe => self.end_command(End::Pipe),
            Token::AndOr => self.end_command(End::AndOr),
        }
    }

    /// Reserved words count only where a command may begin.
    fn keyword(&mut self, word: &str) -> bool {
        match word {
            "while" => self.open(Kind::While),
            "until" => self.open(Kind::Until),
            "for" | "select" => self.open(Kind::For),
            "if" => self.open(Kind::If),
            "case" => self.open(Kind::Case),
            "do" => self.begin_body(),
            "then" | "else" => self.set_condition(false),
            "elif" => self.set_condition(true),
            "done" | "fi" | "esac" => drop(self.frames.pop()),
            "{" | "}" | "time" => {}
            "!" => self.is_negated = true,
            _other => return false,
        }
        true
    }

    fn open(&mut self, kind: Kind) {
        self.frames.push(Frame { kind, in_condition: true, is_endless: false });
    }

    fn set_condition(&mut self, in_condition: bool) {
        if let Some(frame) = self.frames.last_mut() {
            frame.in_condition = in_condition;
        }
    }

    fn begin_body(&mut self) {
        self.loops += 1;
        let id = self.loops;
        if let Some(frame) = self.frames.last_mut() {
            frame.kind = Kind::Loop(id);
            frame.in_condition = false;
        }
    }

    fn end_command(&mut self, end: End) {
        let command = core::mem::take(&mut self.command);
        let was_chained = core::mem::replace(&mut self.is_chained, end == End::AndOr);
        let is_negated = core::mem::take(&mut self.is_negated);
        let before = self.before_or.take();
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        if words.is_empty() {
            return;
        }
        if let Some((is_by_name, place)) = before.filter(|_| is_nothing(&words) && end != End::AndOr) {
            // `server || true`: of no account, in any shell with `set -e`.
            self.calls(is_by_name).pop();
            self.calls(is_by_name).push(place);
        }
        self.judge_condition(&words, end);
        self.follow_status(&words, end);
        let words = program_and_arguments(&words);
        let is_ours = |word: &&&str| self.names.contains(&base(word));
        let is_by_name = words.iter().take(NAMES).any(|word| is_ours(&word));
        if is_by_name || words.first().is_some_and(|word| word.contains('$')) {
            let is_plain = end != End::AndOr && !was_chained;
            let place = if is_plain { self.place(is_negated) } else { Place::Elsewhere };
            self.calls(is_by_name).push(place);
            let if_ignored = if was_chained { Place::Elsewhere } else { self.place(is_negated) };
            self.before_or = (end == End::AndOr).then_some((is_by_name, if_ignored));
        }
    }

    fn calls(&mut self, is_by_name: bool) -> &mut Vec<Place> {
        if is_by_name { &mut self.by_name } else { &mut self.by_variable }
    }

    /// Whoever leaves the loop, or looks at a status otherwise than to tell of it, may wait for an answer.
    fn follow_status(&mut self, words: &[&str], end: End) {
        let holds = |word: &&&str| {
            let is_known = |name: &String| [format!("${name}"), format!("${{{name}}}")];
            word.contains("$?")
                || self.statuses.iter().flat_map(is_known).any(|status| word.contains(&status))
        };
        let was_told = core::mem::take(&mut self.is_told);
        let is_of_it = was_told || words.iter().any(|word| holds(&word));
        let assigned = words[0].split_once('=').filter(|(name, _)| words.len() == 1 && is_variable(name));
        let teller = if was_told { PASSING.as_slice() } else { TELLING.as_slice() };
        let is_telling = teller.contains(&base(words[0])) && !overwrites(words);
        if let Some((name, _)) = assigned.filter(|_| is_of_it) {
            self.statuses.push(name.to_owned());
        } else if LEAVING.contains(&words[0]) || (is_of_it && !is_telling) {
            self.leave();
        } else {
            self.is_told = is_of_it && end == End::Pipe;
        }
    }

    /// `while true`, `while :`, `while sleep 1`, `while [ 1 ]`, `while ((1))`, `until false`, `for ((;;))`.
    fn judge_condition(&mut self, words: &[&str], end: End) {
        let Some(frame) = self.frames.last_mut().filter(|frame| frame.in_condition) else {
            return;
        };
        let program = base(words[0]);
        frame.is_endless = end != End::AndOr
            && match frame.kind {
                Kind::While => ["true", ":", "sleep"].contains(&program) || is_constant(words),
                Kind::Until => program == "false" || words == ["((0))"],
                Kind::For => words == [ENDLESS_FOR],
                Kind::Loop(_) | Kind::If | Kind::Case => false,
            };
    }

    /// No condition may lie between the innermost loop and here.
    fn place(&self, is_negated: bool) -> Place {
        let Some(frame) = self.frames.last() else {
            return Place::Elsewhere;
        };
        match frame.kind {
            Kind::Loop(id) if frame.is_endless && !is_negated => Place::Endless(id),
            Kind::Until if frame.in_condition && !is_negated => Place::UntilItEndsWell,
            Kind::While if frame.in_condition && is_negated => Place::UntilItEndsWell,
            Kind::Loop(_) | Kind::While | Kind::Until | Kind::For | Kind::If | Kind::Case => Place::Elsewhere,
        }
    }

    /// Of a loop in a loop the outer one may be left too.
    fn leave(&mut self) {
        let open = self.frames.iter().filter_map(|frame| match frame.kind {
            Kind::Loop(id) => Some(id),
            Kind::While | Kind::Until | Kind::For | Kind::If | Kind::Case => None,
        });
        self.left.extend(open);
    }
}

/// `[ 1 ]`, `[[ true ]]`, `((1))`: any word is true, and any number but 0.
fn is_constant(words: &[&str]) -> bool {
    match words {
        ["[", word, "]"] | ["[[", word, "]]"] => !word.is_empty() && !word.contains(['$', '`', '!']),
        [word] => {
            let number = word.strip_prefix("((").and_then(|rest| rest.strip_suffix("))"));
            number.is_some_and(|number| number.parse().is_ok_and(|number: u32| number != 0))
        }
        _ => false,
    }
}

const LEAVING: [&str; 4] = ["break", "exit", "return", "trap"];
/// `log "ended with $?"` may be anything, a function that leaves among them.
const TELLING: [&str; 4] = ["echo", "printf", "logger", ":"];
/// Behind a pipe.
const PASSING: [&str; 5] = ["logger", "systemd-cat", "tee", "cat", "ts"];
const ENDLESS_FOR: &str = "((;;))";
/// A `>` that is no part of a text.
const REDIRECT: char = '\u{1}';

/// A file with a status in it is there for somebody to ask; a log and a terminal are not.
fn overwrites(words: &[&str]) -> bool {
    let is_terminal = |file: &str| {
        ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"].contains(&file)
            || file.starts_with("/dev/fd/")
    };
    let redirects = words.iter().enumerate().any(|(at, word)| {
        let Some((_, to)) = word.split_once(REDIRECT) else {
            return false;
        };
        let file = if to.is_empty() { words.get(at + 1).copied().unwrap_or_default() } else { to };
        !to.starts_with([REDIRECT, '&']) && !is_terminal(file)
    });
    let appends = || words.iter().any(|word| ["-a", "--append"].contains(word));
    let is_file = |word: &&str| !word.starts_with('-') && !word.contains(REDIRECT) && !is_terminal(word);
    redirects || (base(words[0]) == "tee" && !appends() && words[1..].iter().any(is_file))
}

/// `|| true`
fn is_nothing(words: &[&str]) -> bool {
    words == ["true"] || words == [":"]
}

/// Without assignments and without programs that become the next one.
fn program_and_arguments<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    let is_before = |word: &&str| {
        PREFIXES.contains(&base(word)) || word.split_once('=').is_some_and(|(name, _)| is_variable(name))
    };
    let before = words.iter().take_while(|word| is_before(word)).count();
    &words[before..]
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// Quotes are taken off, comments out; substitutions and here-documents stay words, which are nobody's name.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' => word.get_or_insert_default().extend(rest.by_ref().take_while(|c| *c != '\'')),
            '"' => quoted(&mut rest, word.get_or_insert_default()),
            '\\' => match rest.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            '#' if word.is_none() => while rest.next_if(|c| *c != '\n').is_some() {},
            ' ' | '\t' | '\r' => flush(&mut tokens, &mut word),
            '(' if word.is_none() && rest.peek() == Some(&'(') => {
                tokens.push(Token::Word(arithmetic(&mut rest)));
            }
            '&' | '|' => {
                flush(&mut tokens, &mut word);
                let is_double = rest.next_if_eq(&c).is_some();
                tokens.push(match (is_double, c) {
                    (true, _) => Token::AndOr,
                    (false, '|') => Token::Pipe,
                    (false, _) => Token::Separator,
                });
            }
            // `2>&1`, `>&2`: no background.
            '>' | '<' => {
                let mark = |c| if c == '>' { REDIRECT } else { c };
                word.get_or_insert_default().push(mark(c));
                while let Some(next) = rest.next_if(|c| matches!(c, '>' | '<' | '&' | '|')) {
                    word.get_or_insert_default().push(mark(next));
                }
            }
            '\n' | ';' | '(' | ')' => {
                flush(&mut tokens, &mut word);
                tokens.push(Token::Separator);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    flush(&mut tokens, &mut word);
    tokens
}

fn flush(tokens: &mut Vec<Token>, word: &mut Option<String>) {
    tokens.extend(word.take().map(Token::Word));
}

fn quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) {
    while let Some(c) = rest.next() {
        match c {
            '"' => return,
            '\\' => word.extend(rest.next()),
            other => word.push(other),
        }
    }
}

/// `((;;))` if its condition is empty, a number as it is, else something that is no endless loop.
fn arithmetic(rest: &mut impl Iterator<Item = char>) -> String {
    let mut inside = String::new();
    for c in rest {
        inside.push(c);
        if inside.ends_with("))") {
            break;
        }
    }
    let inside = inside.trim_start_matches('(').trim_end_matches(')');
    let condition = inside.split(';').nth(1);
    if condition.is_some_and(|condition| condition.trim().is_empty()) {
        ENDLESS_FOR.to_owned()
    } else if inside.trim().parse::<u32>().is_ok() {
        format!("(({}))", inside.trim())
    } else {
        "((...))".to_owned()
    }
}
