//! Prometheus's text format, version 0.0.4.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::{Display, Write};

use super::{BOUNDS_NS, Counts};

/// What an answer in this format says of itself.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What may be done with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, from 0 at a start.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

impl Kind {
    /// The word after `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A name, with what it means. Its samples differ in their labels.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// `pileus_requests_total`.
    pub name: &'static str,
    /// What may be done with it.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// For people, in one line.
    pub help: &'static str,
}

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// What was written.
    pub fn done(self) -> String {
        self.0
    }

    /// Begins a metric: all of its samples follow.
    pub fn begin(&mut self, metric: &Metric) {
        // Writing to a text cannot fail, here and below.
        write!(self.0, "# HELP {} ", metric.name).ok();
        escape(&mut self.0, metric.help, false);
        write!(self.0, "\n# TYPE {} {}\n", metric.name, metric.kind.as_str()).ok();
    }

    /// A sample.
    pub fn sample(&mut self, metric: &Metric, values: &[&str], number: impl Display) {
        self.line(metric, "", values, None, number);
    }

    /// The samples of a histogram: buckets, each with those before it, their sum and their count.
    pub fn histogram(&mut self, metric: &Metric, values: &[&str], counts: &Counts) {
        let mut below = 0;
        for (count, bound) in counts.buckets.iter().zip(BOUNDS_NS) {
            below += count;
            self.line(metric, "_bucket", values, Some(&Seconds(bound).to_string()), below);
        }
        self.line(metric, "_bucket", values, Some("+Inf"), counts.count());
        self.line(metric, "_sum", values, None, Seconds(counts.sum_ns));
        self.line(metric, "_count", values, None, counts.count());
    }

    fn line(&mut self, metric: &Metric, part: &str, values: &[&str], le: Option<&str>, number: impl Display) {
        self.0 += metric.name;
        self.0 += part;
        let labels = metric.labels.iter().copied().zip(values.iter().copied());
        for (at, (label, value)) in labels.chain(le.map(|le| ("le", le))).enumerate() {
            write!(self.0, "{}{label}=\"", if at == 0 { '{' } else { ',' }).ok();
            escape(&mut self.0, value, true);
            self.0.push('"');
        }
        let close = if metric.labels.is_empty() && le.is_none() { "" } else { "}" };
        writeln!(self.0, "{close} {number}").ok();
    }
}

/// Nanoseconds, written in seconds, without a detour by a fraction of two's powers.
pub(super) struct Seconds(pub u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:09}").trim_end_matches('0'))
    }
}

fn escape(to: &mut String, text: &str, quoted: bool) {
    for char in text.chars() {
        match char {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if quoted => to.push_str("\\\""),
            char => to.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn a_page_is_written_as_the_format_has_it() {
        let mut text = Text::default();
        let plain = Metric { name: "a", kind: Kind::Gauge, labels: &[], help: "one \"line\"\n\\two" };
        text.begin(&plain);
        text.sample(&plain, &[], 3);
        let labelled =
            Metric { name: "b_total", kind: Kind::Counter, labels: &["x", "y"], help: "of labels" };
        text.begin(&labelled);
        text.sample(&labelled, &["q\"\\\n", "ü"], 0.5);
        let expected = "# HELP a one \"line\"\\n\\\\two\n# TYPE a gauge\na 3\n# HELP b_total of labels\n\
                        # TYPE b_total counter\nb_total{x=\"q\\\"\\\\\\n\",y=\"ü\"} 0.5\n";
        assert_eq!(text.done(), expected);
    }

    #[test]
    fn buckets_hold_those_before_them() {
        let histogram = Histogram::default();
        [150, 150, 3_000_000, 20_000_000_000].into_iter().for_each(|ns| histogram.add(ns));
        let metric = Metric { name: "d_seconds", kind: Kind::Histogram, labels: &["f"], help: "" };
        let mut text = Text::default();
        text.histogram(&metric, &["x"], &histogram.counts());
        let text = text.done();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 28);
        for line in [
            "d_seconds_bucket{f=\"x\",le=\"0.0000001\"} 0",
            "d_seconds_bucket{f=\"x\",le=\"0.0000002\"} 2",
            "d_seconds_bucket{f=\"x\",le=\"0.002\"} 2",
            "d_seconds_bucket{f=\"x\",le=\"0.005\"} 3",
            "d_seconds_bucket{f=\"x\",le=\"10\"} 3",
            "d_seconds_bucket{f=\"x\",le=\"+Inf\"} 4",
            "d_seconds_sum{f=\"x\"} 20.0030003",
            "d_seconds_count{f=\"x\"} 4",
        ] {
            assert!(lines.contains(&line), "{line} in {text}");
        }
    }
}
