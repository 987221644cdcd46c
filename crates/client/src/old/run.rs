//! Does the steps of a plan, and prints what the old programs printed.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Step, refusal::refused};
use crate::{
    audit::{Audit, Level},
    http::{Answer, Call, Failure, Server},
    outcome::{End, Outcome},
};

/// How steps are done.
#[derive(Debug)]
pub struct Run<'a> {
    /// Who is asked.
    pub server: &'a Server,
    /// Where changes are noted; `cloud_status` has none.
    pub audit: Option<&'a Audit>,
    /// The path that the program was called by.
    pub called: &'a str,
    /// Print JSON, whatever the server sends.
    pub json: bool,
    /// Say on standard error what the old texts do not tell.
    pub strict: bool,
}

impl Run<'_> {
    /// Does all steps, or as many as the server answers.
    pub async fn steps(&self, steps: &[Step]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut trouble = None;
        for step in steps {
            if let Err(failure) = self.step(step, &mut outcome).await {
                trouble = Some(self.trouble(&failure));
                if let (true, Failure::Unreachable(why)) = (self.strict, &failure) {
                    outcome.complain(why);
                }
                outcome.ends(End::NoAnswer);
                break;
            }
        }
        if self.json {
            outcome.out = wrapped(&outcome.out, trouble.as_deref());
        } else if let Some(trouble) = trouble {
            outcome.say(&trouble);
        }
        outcome
    }

    async fn step(&self, step: &Step, outcome: &mut Outcome) -> Result<(), Failure> {
        match step {
            Step::Say(line) => outcome.say(line),
            Step::Lacking(line) => {
                outcome.say(line);
                outcome.ends(End::Incomplete);
            }
            Step::NotOffered(line) => {
                outcome.say(line);
                outcome.ends(End::NotOffered);
            }
            Step::Ask(call) | Step::AskOf(call) => {
                let answer = self.ask(call, outcome).await?;
                outcome.print(&answer.body);
                if matches!(step, Step::AskOf(_)) && refused(&answer.body) {
                    outcome.ends(End::Refused);
                }
            }
            Step::Judge(call, [good, bad], [done, failed]) => {
                if self.ask(call, outcome).await?.body == "True" {
                    outcome.say(good);
                    self.log(Level::Info, done)?;
                } else {
                    outcome.say(bad);
                    outcome.ends(End::Refused);
                    self.log(Level::Debug, failed)?;
                }
            }
            Step::Tell(call) => {
                self.ask(call, outcome).await?;
            }
            Step::Log(level, text) => self.log(*level, text)?,
        }
        Ok(())
    }

    async fn ask(&self, call: &Call, outcome: &mut Outcome) -> Result<Answer, Failure> {
        let answer = self.server.send(call).await?;
        if answer.status >= 400 {
            outcome.ends(End::Refused);
        }
        Ok(answer)
    }

    fn log(&self, level: Level, text: &str) -> Result<(), Failure> {
        let Some(audit) = self.audit else { return Ok(()) };
        audit.write(level, text).map_err(|error| Failure::Unexpected("AuditLog", error))
    }

    /// The two lines of a failure, as the old programs have them.
    fn trouble(&self, failure: &Failure) -> String {
        let Server { host, port, .. } = self.server;
        let mut text = match failure {
            Failure::Unreachable(_) => {
                format!("{}: couldn't connect to cloud scheduler at {host} on port {port}.\n", self.called)
            }
            Failure::Unexpected(class, text) => format!("Unexpected error:  {class} {text}\n"),
        };
        write!(text, "Is the cloud scheduler running on port {port}?").ok();
        text
    }
}

/// What was printed as JSON: as it is where it is JSON, else in an object.
fn wrapped(printed: &[u8], trouble: Option<&str>) -> Vec<u8> {
    let text = printed.strip_suffix(b"\n").unwrap_or(printed);
    let value = match trouble {
        None if serde_json::from_slice::<Value>(text).is_ok_and(|it| it.is_object() || it.is_array()) => {
            return printed.to_vec();
        }
        None => json!({ "text": String::from_utf8_lossy(text) }),
        Some(error) if text.is_empty() => json!({ "error": error }),
        Some(error) => json!({ "text": String::from_utf8_lossy(text), "error": error }),
    };
    format!("{value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_left_alone_and_text_is_wrapped() {
        let cases = [
            ("{\"a\": 1}\n", None, "{\"a\": 1}\n"),
            ("{}\n", None, "{}\n"),
            ("not found\n", None, "{\"text\":\"not found\"}\n"),
            ("5\n", None, "{\"text\":\"5\"}\n"),
            ("\n", None, "{\"text\":\"\"}\n"),
            ("a\nb\n\n", None, "{\"text\":\"a\\nb\\n\"}\n"),
            ("", Some("down"), "{\"error\":\"down\"}\n"),
            ("title\n", Some("down"), "{\"error\":\"down\",\"text\":\"title\"}\n"),
        ];
        for (printed, trouble, expected) in cases {
            assert_eq!(String::from_utf8(wrapped(printed.as_bytes(), trouble)).unwrap(), expected);
        }
    }
}
