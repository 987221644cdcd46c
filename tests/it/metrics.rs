//! `GET /metrics` and `pileus explain --time`, of a server that answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Place, Reply, Server, send};

/// A page, understood: kinds by name, and numbers by name and labels.
struct Page {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Page {
    /// Reads the text format as strictly as its description allows.
    fn read(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(reply.text.ends_with('\n'));
        let mut page = Self { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut helped, mut current) = (String::new(), String::new());
        for line in reply.text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a text");
                assert!(!text.is_empty(), "{line}");
                helped = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a kind");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name, helped, "HELP stands right before TYPE");
                assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line} twice");
                current = name.to_owned();
            } else {
                let (key, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no number: {line}"));
                let name = key.split('{').next().expect("a name");
                let part = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} below {current}"));
                match page.kinds[&current].as_str() {
                    "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&part), "{line}"),
                    _ => assert_eq!(part, "", "{line}"),
                }
                assert!(labels(key).is_some(), "{line}");
                let number: f64 = number.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(number.is_finite() && number >= 0.0, "{line}");
                assert!(page.samples.insert(key.to_owned(), number).is_none(), "{line} twice");
            }
        }
        page.check_buckets();
        page
    }

    /// Each bucket holds those before it, and the last one all.
    fn check_buckets(&self) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (key, count) in &self.samples {
            let Some((series, bound)) = key.split_once("le=\"") else { continue };
            let bound: f64 = bound.trim_end_matches("\"}").replace("+Inf", "inf").parse().expect("a bound");
            buckets.entry(series.to_owned()).or_default().push((bound, *count));
        }
        assert!(!buckets.is_empty());
        for (series, mut all) in buckets {
            all.sort_by(|one, two| one.0.total_cmp(&two.0));
            assert_eq!(all.len(), 26, "{series}");
            assert!(all.is_sorted_by(|one, two| one.0 < two.0 && one.1 <= two.1), "{series}");
            let count = series.replace("_bucket{", "_count{").trim_end_matches(',').to_owned() + "}";
            assert_eq!(self.samples[&count], all[25].1, "{count}");
        }
    }

    fn get(&self, key: &str) -> f64 {
        self.samples.get(key).copied().unwrap_or_else(|| panic!("no {key} in {:#?}", self.samples.keys()))
    }

    fn timed(&self, pipeline: &str, filter: &str) -> f64 {
        let labels = format!("{{pipeline=\"{pipeline}\",filter=\"{filter}\"}}");
        self.get(&format!("pileus_filter_duration_seconds_count{labels}"))
    }
}

/// Names and values of a sample's labels; `None`: they are not written as they have to be.
fn labels(key: &str) -> Option<Vec<(&str, &str)>> {
    let Some((_, labels)) = key.split_once('{') else { return Some(Vec::new()) };
    let mut rest = labels.strip_suffix('}')?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return None;
        }
        let end = after.find('"').filter(|end| !after[..*end].contains('\\'))?;
        found.push((name, &after[..end]));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(found)
}

/// Every request to the API is timed, none to the admin port.
fn place() -> Place {
    let place = Place::quick(300);
    let paste = std::fs::read_to_string(place.path().join("api-paste.toml")).expect("the pipelines");
    let timed = paste
        .replace("\napp    = \"api\"", "\napp    = \"api\"\ntime_one_in = 1")
        .replace("\napp    = \"admin\"", "\napp    = \"admin\"\ntime_one_in = 0");
    assert_eq!(timed.matches("\ntime_one_in").count(), 2);
    place.write("api-paste.toml", &timed);
    place
}

fn scrape(server: &Server<'_>) -> Page {
    Page::read(&server.info("/metrics"))
}

#[test]
fn what_was_asked_is_counted_and_timed() {
    let place = place();
    let server = place.serve();
    let job = server.submit("true");
    server.await_job(&job, "complete");
    let before = scrape(&server);
    // Port, path, status, how often.
    let calls = [
        (server.api, "/v2/default/clouds", 200, 5),
        (server.api, "/v2/default/nothing", 404, 2),
        (server.api, "/v2/other/clouds", 400, 1),
        (server.admin, "/cloud-aliases", 200, 3),
    ];
    let token = format!("X-Auth-Token: {}", server.token);
    for (to, path, status, times) in calls {
        for _ in 0..times {
            assert_eq!(send(to, "GET", path, &[&token], "").status, status, "{path}");
        }
    }
    assert_eq!(send(server.api, "GET", "/v2/default/clouds", &[], "").status, 401);
    let after = scrape(&server);
    assert_eq!(before.kinds, after.kinds);
    // What rose, and by how much.
    let rose = [
        ("pileus_requests_total{server=\"api\",code=\"200\"}", 5.0),
        ("pileus_requests_total{server=\"api\",code=\"404\"}", 2.0),
        ("pileus_requests_total{server=\"api\",code=\"400\"}", 1.0),
        ("pileus_requests_total{server=\"api\",code=\"401\"}", 1.0),
        ("pileus_requests_total{server=\"admin\",code=\"200\"}", 3.0),
        ("pileus_requests_total{server=\"info\",code=\"200\"}", 1.0),
        ("pileus_connections_total{server=\"api\"}", 9.0),
        ("pileus_request_duration_seconds_count{server=\"api\"}", 9.0),
        ("pileus_request_duration_seconds_count{server=\"admin\"}", 0.0),
    ];
    for (key, by) in rose {
        let had = before.samples.get(key).copied().unwrap_or(0.0);
        assert_eq!(after.get(key) - had, by, "{key}");
    }
    // Who has no token comes as far as `tokens`; where there is no such route, nobody comes to the app.
    let passed = [("request_id", 9.0), ("tokens", 9.0), ("ratelimit", 8.0), ("policy", 8.0), ("osapi", 5.0)];
    for (filter, by) in passed {
        let rise = after.timed("composite.v2", filter) - before.timed("composite.v2", filter);
        assert_eq!(rise, by, "{filter}");
    }
    assert_eq!(after.timed("pipeline.admin", "cloud_admin"), 0.0, "time_one_in = 0");
    for (key, kind) in &after.kinds {
        let same = |it: &&String| {
            it.split('{').next().is_some_and(|it| it == key || kind == "histogram" && it.starts_with(key))
        };
        assert!(after.samples.keys().any(|it| same(&it)), "{key} has no sample");
        if kind != "gauge" {
            for (key, was) in before.samples.iter().filter(|(key, _)| same(key)) {
                assert!(after.get(key) >= *was, "{key} fell");
            }
        }
    }
    let shown = [
        (format!("pileus_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        ("pileus_jobs{state=\"complete\"}".into(), 1.0),
        ("pileus_jobs{state=\"held\"}".into(), 0.0),
        ("pileus_vms{cloud=\"local\",state=\"Running\"}".into(), 1.0),
        ("pileus_cloud_enabled{cloud=\"local\"}".into(), 1.0),
        ("pileus_reconciler_interval_seconds{reconciler=\"Scheduler\"}".into(), 1.0),
        ("pileus_reconciler_failing{reconciler=\"VMPoller\"}".into(), 0.0),
        // This very question.
        ("pileus_requests_in_flight{server=\"info\"}".into(), 1.0),
        ("pileus_requests_in_flight{server=\"api\"}".into(), 0.0),
        ("pileus_reloads_total{result=\"success\"}".into(), 0.0),
    ];
    for (key, number) in shown {
        assert_eq!(after.get(&key), number, "{key}");
    }
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
    for key in ["process_start_time_seconds", "pileus_config_loaded_timestamp_seconds"] {
        assert!((now - after.get(key)).abs() < 600.0, "{key}: {} at {now}", after.get(key));
    }
    assert!(after.get("process_resident_memory_bytes") > 1e6 && after.get("process_open_fds") > 5.0);
    // Nobody's own is told.
    let text = server.info("/metrics").text;
    for secret in [job.as_str(), &server.token, "default"] {
        assert!(!text.contains(secret), "{secret}");
    }
    // A reload goes on counting.
    let reply = server.post("/v2/default/service/action", r#"{"reload": null}"#);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reloaded = scrape(&server);
    assert_eq!(reloaded.get("pileus_reloads_total{result=\"success\"}"), 1.0);
    assert!(reloaded.timed("composite.v2", "osapi") > after.timed("composite.v2", "osapi"));
    let requests = "pileus_requests_total{server=\"api\",code=\"200\"}";
    assert_eq!(reloaded.get(requests), after.get(requests) + 1.0);
}

#[test]
fn the_page_stands_beside_the_old_paths_and_is_as_closed_as_they_are() {
    let place = place();
    let server = place.serve();
    // Method, path, header, status, body.
    let cases = [
        ("GET", "/metrics/", "", 200, "# HELP"),
        ("HEAD", "/metrics", "", 200, ""),
        ("POST", "/metrics", "", 405, "None"),
        ("GET", "/metrics/x", "", 404, "not found"),
        ("GET", "/metricsx", "", 404, "not found"),
        ("GET", "/nope", "", 404, "not found"),
        ("GET", "/metrics", "Origin: http://evil.example", 403, ""),
        ("GET", "/vms?metric=total", "", 200, "0"),
    ];
    for (method, path, header, status, body) in cases {
        let headers: &[&str] = if header.is_empty() { &[] } else { &[header] };
        let reply = send(server.info, method, path, headers, "");
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        assert!(reply.text.starts_with(body), "{method} {path}: {}", reply.text);
    }
    // Other hosts may not ask, unless somebody says so.
    let paste = std::fs::read_to_string(place.path().join("api-paste.toml")).expect("the pipelines");
    place.write("open.toml", &format!("{paste}\n[server.open]\nlisten = \"0.0.0.0:0\"\napp = \"scrape\"\n"));
    let (status, _, said) = place.run(&["check", "--paste", "open.toml"]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("no filter on the way to `metrics` proves who calls"), "{said}");
}

#[test]
fn the_times_of_a_way_are_told() {
    let place = place();
    let server = place.serve();
    let url = format!("http://{}", server.api);
    for _ in 0..3 {
        assert_eq!(server.get("/v2/default/clouds").status, 200);
    }
    let args = ["explain", "--time", "GET", "/v2/default/clouds", "--url", &url];
    let (status, text, said) = place.run(&args);
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{text}");
    let mut rest = text.as_str();
    let way =
        ["composite.v2", "request_id", "trace", "guess_limit", "tokens", "ratelimit", "sizelimit", "osapi"];
    for word in way.into_iter().chain(["All requests of server `api`", "not of this path alone"]) {
        let (_, after) = rest.split_once(word).unwrap_or_else(|| panic!("no {word} in {text}"));
        rest = after;
    }
    let (status, text, said) = place.run(&[&args[..], &["--json"]].concat());
    assert_eq!(status.code(), Some(0), "{said}");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["server"]["name"], json!("api"));
    let stages = told["times"]["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), 10, "{text}");
    let share: f64 = stages.iter().filter_map(|stage| stage["share"].as_f64()).sum();
    assert!((share - 1.0).abs() < 1e-9, "{share}");
    for stage in stages {
        let (own, total) = (&stage["own"]["sum_ns"], &stage["total"]["sum_ns"]);
        assert!(stage["count"].as_u64() >= Some(3) && own.as_u64() <= total.as_u64(), "{stage}");
    }
    // All own times together are the time of the outermost stage.
    let own = |stage: &Value| stage["own"]["sum_ns"].as_u64().expect("a sum");
    let together: u64 = stages.iter().map(own).sum();
    // The request that asks is itself half way.
    assert!(together >= stages[0]["total"]["sum_ns"].as_u64().expect("a sum"), "{text}");

    let member = place.path().join("member").display().to_string();
    let wanted =
        json!({ "token": { "name": "m", "user": "ada", "project": "default", "roles": ["member"] } });
    let made = server.post("/v2/default/tokens", &wanted.to_string()).json();
    place.secret("member", made["token"]["secret"].as_str().expect("a token"));
    let cases: [(&[&str], i32, &str); 5] = [
        (&["GET", "/v2/p/clouds", "--time", "--url", &url, "--token-file", &member], 1, "service:timings"),
        (&["GET", "/v2/p/clouds", "--time", "--url", "http://127.0.0.1:1"], 69, "127.0.0.1:1"),
        (&["GET", "/v2/p/clouds", "--url", &url], 64, "--time"),
        (&["GET", "/v2/p/nothing", "--time", "--url", &url], 1, "osapi"),
        (&["GET", "/metrics", "--server", "info", "--time", "--url", &url], 0, "pipeline.scrape"),
    ];
    for (args, code, says) in cases {
        let (status, stdout, stderr) = place.run(&[&["explain"], args].concat());
        let text = stdout + &stderr;
        assert_eq!(status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
}
