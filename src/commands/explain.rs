//! `pileus explain job ID`: why a job waits, by the server that has it.

use std::{fmt::Write as _, io::Write, path::Path};

use bytes::Bytes;
use comfy_table::{Table, presets::NOTHING};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pileus_engine::secret_file::{self, Readers};
use serde_json::Value;

use super::{FAILED, OK, SOFTWARE, UNAVAILABLE, api_server};
use crate::{
    cli::ExplainJob,
    client::{self, Target},
    logging::visible,
};

/// The administrator's project: that of his token.
pub const PROJECT: &str = "default";

pub fn job(asked: &ExplainJob) -> u8 {
    let found = api_server::find(&asked.options, asked.url.as_deref(), asked.token_file.as_deref());
    let (target, token) = match found {
        Ok(found) => found,
        Err((code, text)) => return fail(code, &text),
    };
    let id = utf8_percent_encode(&asked.id, NON_ALPHANUMERIC);
    let path = match &asked.project {
        Some(project) => {
            format!("/{}/jobs/{id}/explain", utf8_percent_encode(project, NON_ALPHANUMERIC))
        }
        None => format!("/{PROJECT}/jobs/{id}/explain?all_projects=1"),
    };
    let it = match fetch(&target, &path, &token, "explanation") {
        Ok(it) => it,
        Err((code, text)) => return fail(code, &text),
    };
    let it = &it;
    let text = if asked.json { format!("{it:#}\n") } else { told(it) };
    // A closed pipe means that the reader has seen enough.
    std::io::stdout().lock().write_all(text.as_bytes()).ok();
    OK
}

/// Returns what stands below `member` in the answer of a server that runs; else the exit code, and why.
pub fn fetch(target: &Target, path: &str, token: &str, member: &str) -> Result<Value, (u8, String)> {
    let mut json = exchange(target, Method::GET, path, token, Bytes::new())?;
    json.get_mut(member).map(Value::take).ok_or_else(|| (FAILED, format!("the answer has no `{member}`")))
}

/// Calls the server. Returns the answer's JSON, null where it has none; else the exit code, and why.
pub fn exchange(
    target: &Target,
    method: Method,
    path: &str,
    token: &str,
    body: Bytes,
) -> Result<Value, (u8, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (SOFTWARE, format!("no network: {error}")))?;
    let answer = runtime.block_on(client::call(target, method, path, token, body));
    let (status, body) = answer.map_err(|error| (UNAVAILABLE, error.to_string()))?;
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    if (200..300).contains(&status) {
        return Ok(json);
    }
    // A fault: {"itemNotFound": {"code": 404, "message": "…"}}.
    let said = json.as_object().and_then(|it| it.values().next()?.get("message")?.as_str());
    Err((FAILED, said.unwrap_or(&format!("the server answered {status}")).to_owned()))
}

pub fn fail(code: u8, text: &str) -> u8 {
    // Mistakes of the files are rendered whole, and begin with the word already.
    super::tell(format_args!("error: {}", text.strip_prefix("error: ").unwrap_or(text).trim_end()));
    code
}

/// The token, which no error repeats.
pub fn token(file: Option<&Path>, state: &Path) -> Result<String, String> {
    let read = |file: &Path, remedy: &str| match secret_file::read_text(file, Readers::OwnerAndGroup) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) => Err(match error.help() {
            Some(help) => format!("the token {error}\nhelp: {help}"),
            None => format!("the token {error}{remedy}"),
        }),
    };
    if let Some(file) = file {
        return read(file, "");
    }
    match std::env::var("PILEUS_TOKEN") {
        Ok(token) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
        Err(std::env::VarError::NotUnicode(_)) => Err("$PILEUS_TOKEN is no token: it is not UTF-8".into()),
        _ => read(&state.join("admin-token"), ": name the server's --state, or a --token-file"),
    }
}

/// For people: the sentence, then what it comes from.
fn told(it: &Value) -> String {
    let text = |key: &str| visible(it[key].as_str().unwrap_or_default());
    let bounded = |key: &str| match it[key]["limit"].as_u64() {
        Some(limit) => format!("{} VMs of at most {limit}", it[key]["now"]),
        None => format!("{} VMs, no limit", it[key]["now"]),
    };
    let part = |key: &str| it["share"][key].as_f64().unwrap_or_default() * 100.0;
    let mut out = format!("Job {} is {}. {}\n\n", text("job"), text("state"), text("why"));
    if it["remedy"].is_string() {
        writeln!(out, "  help: {}\n", text("remedy")).ok();
    }
    if it["queue"].is_object() {
        let (position, length) = (&it["queue"]["position"], &it["queue"]["length"]);
        let whose =
            if it["queue"]["of"] == "everybody" { "all jobs" } else { "the jobs of its user and type" };
        writeln!(out, "  queue      {position} of {length} of {whose} that want a VM").ok();
    }
    if it["share"].is_object() {
        let (current, desired, diff) = (part("current"), part("desired"), part("diff"));
        writeln!(out, "  share      has {current:.1} % of all VMs, should have {desired:.1} %: {diff:+.1}")
            .ok();
    }
    for (of, key) in [("its user ", "user_vms"), ("its type ", "type_vms"), ("starting ", "starting_vms")] {
        writeln!(out, "  {of}  {}", bounded(key)).ok();
    }
    for failure in it["failures"].as_array().into_iter().flatten() {
        let word = |key: &str| visible(failure[key].as_str().unwrap_or_default());
        let (cloud, detail) = (word("cloud"), word("detail"));
        writeln!(out, "  failed     {} s ago on {cloud}: {detail}", failure["ago_s"]).ok();
    }
    if let Some(left) = it["banned_for_s"].as_u64() {
        writeln!(out, "  left alone for {left} s more").ok();
    }
    out.push('\n');
    let clouds = it["clouds"].as_array().map(Vec::as_slice).unwrap_or_default();
    if clouds.is_empty() {
        out += "  There is no cloud.\n";
        return out;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["CLOUD", "FITS", "FAILED", "WHY"]);
    for cloud in clouds {
        let word = |key: &str| visible(cloud[key].as_str().unwrap_or_default());
        let fits = if cloud["fits"] == true { "yes" } else { "no" };
        table.add_row([word("cloud"), fits.to_owned(), word("failed"), word("detail")]);
    }
    writeln!(out, "{}", table.trim_fmt()).ok();
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_read_the_sentence_first() {
        let it = json!({
            "job": "j-1", "state": "new", "why": "It waits: every cloud that could run it is full.", "seq": 9,
            "remedy": "Allow one more VM on cloud b.",
            "clouds": [
                {"cloud": "a", "fits": true, "failed": null, "detail": null},
                {"cloud": "b", "fits": false, "failed": "slots_free", "detail": "all of its 2 slots are taken"},
            ],
            "queue": {"of": "user_and_type", "position": 2, "length": 7},
            "share": {"current": 0.25, "desired": 0.5, "diff": -0.25},
            "user_vms": {"now": 3, "limit": 4},
            "type_vms": {"now": 1, "limit": null},
            "starting_vms": {"now": 1, "limit": null},
            "failures": [{"cloud": "a", "fault": "not_booted", "detail": "no boot", "ago_s": 9}],
            "banned_for_s": 60,
        });
        let wanted = "\
Job j-1 is new. It waits: every cloud that could run it is full.

  help: Allow one more VM on cloud b.

  queue      2 of 7 of the jobs of its user and type that want a VM
  share      has 25.0 % of all VMs, should have 50.0 %: -25.0
  its user   3 VMs of at most 4
  its type   1 VMs, no limit
  starting   1 VMs, no limit
  failed     9 s ago on a: no boot
  left alone for 60 s more

";
        let told = told(&it);
        assert!(told.starts_with(wanted), "{told}");
        let rows: Vec<Vec<&str>> = told[wanted.len()..]
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect())
            .collect();
        assert_eq!(
            rows[1..],
            [vec!["a", "yes"], vec!["b", "no", "slots_free", "all of its 2 slots are taken"]]
        );
    }
}
