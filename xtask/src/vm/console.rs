//! The guest's protocol: what `init.sh` says on its second serial line, and what it means.
//!
//! A line of healer's guest begins with `@@`; output of a failed test begins with `|`, so that no
//! test can speak for the guest.

/// A line of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The guest is up; its kernel's release.
    Up(String),
    /// A test begins.
    Runs(String),
    Ended(Ended),
    /// A named line for the tables.
    Data {
        name: String,
        text: String,
    },
    /// The guest has done everything and goes.
    Done,
    /// Anything else, for people.
    Other(String),
}

/// A test that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) has_passed: bool,
    /// How long it took and, for a failure, what it ended with.
    pub(crate) detail: String,
}

impl Line {
    pub(crate) fn parse(line: &str) -> Self {
        let line = line.trim_end();
        let other = || Self::Other(line.to_owned());
        let Some(rest) = line.strip_prefix("@@ ") else {
            return other();
        };
        let mut words = rest.splitn(3, ' ');
        let (name, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let detail = words.next().unwrap_or_default().to_owned();
        let name = name.to_owned();
        match verb {
            "UP" => Self::Up(detail),
            "RUN" => Self::Runs(name),
            "PASS" => Self::Ended(Ended { name, has_passed: true, detail }),
            "FAIL" => Self::Ended(Ended { name, has_passed: false, detail }),
            "DATA" => Self::Data { name, text: detail },
            "DONE" => Self::Done,
            _ => other(),
        }
    }
}

/// What one guest said, as far as it came.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(crate) release: Option<String>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) data: Vec<(String, String)>,
    running: Option<String>,
    is_done: bool,
}

impl Transcript {
    pub(crate) fn add(&mut self, line: Line) {
        match line {
            Line::Up(release) => self.release = Some(release),
            Line::Runs(name) => self.running = Some(name),
            Line::Ended(ended) => {
                self.running = None;
                self.ended.push(ended);
            }
            Line::Data { name, text } => self.data.push((name, text)),
            Line::Done => self.is_done = true,
            Line::Other(_) => {}
        }
    }

    /// Closes the transcript of a guest that is gone. One that did not say it was done has
    /// failed, in the test that ran, or as a whole.
    pub(crate) fn close(&mut self, how_it_ended: &str) {
        if self.is_done && self.running.is_none() {
            return;
        }
        let name = self.running.take().unwrap_or_else(|| match self.release {
            Some(_) => "guest::ends".to_owned(),
            None => "guest::starts".to_owned(),
        });
        self.ended.push(Ended { name, has_passed: false, detail: how_it_ended.to_owned() });
    }

    pub(crate) fn passed(&self) -> usize {
        self.ended.iter().filter(|test| test.has_passed).count()
    }

    pub(crate) fn failed(&self) -> usize {
        self.ended.len() - self.passed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str, end: &str) -> Transcript {
        let mut transcript = Transcript::default();
        text.lines().for_each(|line| transcript.add(Line::parse(line)));
        transcript.close(end);
        transcript
    }

    #[test]
    fn a_whole_run_counts_its_tests() {
        let text = "SeaBIOS\r\n@@ guest UP 6.1.0-rt\r\n@@ live_a::x RUN\r\n@@ live_a::x PASS 1.20s\r\n\
                    @@ live_a::y RUN\n| @@ live_a::y PASS forged\n@@ live_a::y FAIL 101 0.3s\n\
                    @@ fact DATA sensor oom_kill\n@@ guest DONE\n";
        let run = transcript(text, "exit status: 0");
        assert_eq!((run.passed(), run.failed()), (1, 1));
        assert_eq!(run.release.as_deref(), Some("6.1.0-rt"));
        assert_eq!(run.ended[0].detail, "1.20s");
        assert_eq!(run.data, [("fact".to_owned(), "sensor oom_kill".to_owned())]);
    }

    #[test]
    fn a_guest_that_goes_in_the_middle_fails_the_test_that_ran() {
        let run = transcript("@@ guest UP 6.1\n@@ live_a::x RUN\n", "no word for 180 s");
        assert_eq!(run.ended[0].name, "live_a::x");
        assert_eq!(run.ended[0].detail, "no word for 180 s");
        assert_eq!(transcript("panic\n", "x").ended[0].name, "guest::starts");
        assert_eq!(transcript("@@ guest UP 6.1\n", "x").ended[0].name, "guest::ends");
    }
}
