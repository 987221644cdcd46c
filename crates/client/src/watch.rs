//! `--watch`: shows the same thing again and again, until Ctrl-C.
//!
//! On a terminal it draws on the alternate screen, so that the one before comes back; elsewhere it
//! prints one picture after another. A server that is away is told of, above what it last said.

use std::{fmt::Write as _, future::Future, io::Write, time::Duration};

use jiff::Zoned;

use crate::{
    native::render::clean,
    outcome::{End, Outcome},
};

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[H";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paper {
    /// A terminal.
    Screen,
    /// A pipe, a file.
    Roll,
}

/// How it is shown.
#[derive(Debug)]
pub struct Watch<'a> {
    /// The pause between two pictures.
    pub every: Duration,
    /// What is drawn on.
    pub paper: Paper,
    /// Columns and lines of the terminal now.
    pub size: fn() -> (usize, usize),
    /// What is shown, in words.
    pub title: &'a str,
    /// What time it is.
    pub now: fn() -> Zoned,
}

impl Watch<'_> {
    /// Shows what `once` gives, until `stop` ends or nobody reads any more.
    pub async fn run(
        &self,
        out: &mut impl Write,
        mut once: impl AsyncFnMut() -> Outcome,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        let mut last = Vec::new();
        if self.paper == Paper::Screen {
            out.write_all(ENTER.as_bytes()).ok();
        }
        loop {
            let outcome = tokio::select! {
                () = &mut stop => break,
                outcome = once() => outcome,
            };
            let away = outcome.end == End::NoAnswer;
            let trouble = match away {
                true => [outcome.out.as_slice(), outcome.err.as_bytes()].concat(),
                false => outcome.err.into_bytes(),
            };
            if !away {
                last = outcome.out;
            }
            let picture = self.picture(&String::from_utf8_lossy(&trouble), &String::from_utf8_lossy(&last));
            if out.write_all(picture.as_bytes()).and_then(|()| out.flush()).is_err() {
                break;
            }
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(self.every) => {}
            }
        }
        if self.paper == Paper::Screen {
            out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush()).ok();
        }
    }

    fn picture(&self, trouble: &str, text: &str) -> String {
        let time = (self.now)().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let head = format!("Every {} s: {}  {time}", self.every.as_secs(), self.title);
        let lines = std::iter::once(head.as_str()).chain(trouble.lines()).chain([""]).chain(text.lines());
        let lines = lines.map(|line| clean(&line.replace('\t', "    ")));
        if self.paper == Paper::Roll {
            return lines.map(|line| line + "\n").chain(["\n".to_owned()]).collect();
        }
        let (columns, rows) = (self.size)();
        let mut picture = String::from("\x1b[H");
        for (at, line) in lines.take(rows).enumerate() {
            let line: String = line.chars().take(columns).collect();
            // Each line clears what was behind it; the last one must not scroll.
            write!(picture, "{}{line}\x1b[K", if at == 0 { "" } else { "\r\n" }).ok();
        }
        picture + "\x1b[J"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str, err: &str, end: End) -> Outcome {
        Outcome { out: text.as_bytes().to_vec(), err: err.into(), end }
    }

    /// Runs through the outcomes, then is stopped.
    async fn shown(paper: Paper, outcomes: Vec<Outcome>) -> String {
        let watch = Watch {
            every: Duration::from_millis(1),
            paper,
            size: || (24, 4),
            title: "cloud_status",
            now: || {
                jiff::civil::datetime(2016, 1, 8, 13, 14, 15, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap()
            },
        };
        let (send, stop) = tokio::sync::oneshot::channel::<()>();
        let mut send = Some(send);
        let mut outcomes = outcomes.into_iter();
        let mut out = Vec::new();
        let once = async || match outcomes.next() {
            Some(outcome) => outcome,
            None => {
                drop(send.take());
                std::future::pending().await
            }
        };
        watch.run(&mut out, once, async { drop(stop.await) }).await;
        String::from_utf8(out).unwrap()
    }

    const HEAD: &str = "Every 0 s: cloud_status  2016-01-08 13:14:15";

    #[tokio::test]
    async fn a_screen_is_drawn_over_cut_to_size_and_given_back() {
        let text = "one\ntwo\tcolumns that are far too long\nthree\nfour\n";
        let out =
            shown(Paper::Screen, vec![outcome(text, "", End::Done), outcome("1\n", "", End::Done)]).await;
        let head = &HEAD[..24];
        let first =
            format!("\x1b[H{head}\x1b[K\r\n\x1b[K\r\none\x1b[K\r\ntwo    columns that are \x1b[K\x1b[J");
        let second = format!("\x1b[H{head}\x1b[K\r\n\x1b[K\r\n1\x1b[K\x1b[J");
        assert_eq!(out, format!("{ENTER}{first}{second}{LEAVE}"));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_told_of_above_what_it_last_said() {
        let outcomes = vec![
            outcome("up\n", "", End::Done),
            outcome("couldn't connect\n", "", End::NoAnswer),
            outcome("up again\n", "", End::Done),
        ];
        let out = shown(Paper::Roll, outcomes).await;
        let expected = format!("{HEAD}\n\nup\n\n{HEAD}\ncouldn't connect\n\nup\n\n{HEAD}\n\nup again\n\n");
        assert_eq!(out, expected);
    }

    #[tokio::test]
    async fn what_a_server_sends_moves_no_cursor() {
        let out = shown(Paper::Roll, vec![outcome("\x1b[2Jgone\n", "", End::Done)]).await;
        assert!(out.contains("\u{fffd}[2Jgone") && !out.contains('\x1b'), "{out}");
    }
}
