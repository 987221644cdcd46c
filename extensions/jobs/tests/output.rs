//! `/v2/{project_id}/jobs/{id}/output/stdout` and `…/stderr` on the bench.

use pileus_ext_jobs::EXTENSION;
use pileus_sdk::{
    header,
    model::{Gap, JobState, Output, StreamOutput},
    testing::{Answer, Ask, Bench, get, put_job},
};

/// `1` new, `2` running and `4` complete of the project `p1`; `3` running of `p2`.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_job(view, "1", |_| ());
        for (id, project, state) in
            [("2", "p1", JobState::Running), ("3", "p2", JobState::Running), ("4", "p1", JobState::Complete)]
        {
            put_job(view, id, |job| {
                (job.project, job.state, job.attempts) = (project.into(), state, 1);
            });
        }
    });
    bench
}

fn output(bytes: &[u8], gap: Option<(u64, u64)>) -> Output {
    let gap = gap.map(|(from, to)| Gap { from, to });
    Output { stdout: StreamOutput { bytes: bytes.to_vec(), gap }, ..Output::default() }
}

fn gap_of(answer: &Answer) -> &str {
    answer.header(header::HeaderName::from_static("pileus-output-gap"))
}

#[tokio::test]
async fn a_stream_is_sent_from_an_offset_on() {
    let bench = bench();
    bench.engine.put_output("4", output(b"headtail", Some((4, 10))));
    bench.engine.put_live("2", output(b"so far", None));
    // job, query, bytes, the gap, the length where it is known
    let cases = [
        ("4", "", "headtail", "4-10", "8"),
        ("4", "?offset=1", "eadtail", "4-10", "7"),
        ("4", "?offset=4", "tail", "4-10", "4"),
        ("4", "?offset=9", "tail", "4-10", "4"),
        ("4", "?offset=10", "tail", "", "4"),
        ("4", "?offset=12", "il", "", "2"),
        ("4", "?offset=14", "", "", "0"),
        ("4", "?offset=18446744073709551615", "", "", "0"),
        ("4", "?follow=1&offset=13", "l", "", "1"),
        ("2", "", "so far", "", ""),
        ("2", "?offset=3", "far", "", ""),
        ("2", "?offset=300", "", "", ""),
        ("1", "", "", "", ""),
    ];
    for (job, query, bytes, gap, length) in cases {
        let mut answer = bench.send(get(&format!("/p1/jobs/{job}/output/stdout{query}"))).await;
        assert_eq!(answer.status, 200, "{job}{query}");
        assert_eq!(gap_of(&answer), gap, "{job}{query}");
        assert_eq!(answer.header(header::CONTENT_LENGTH), length, "{job}{query}");
        assert_eq!(answer.streamed(), (bytes.into(), true), "{job}{query}");
    }
    let mut answer = bench.send(get("/p1/jobs/4/output/stderr")).await;
    assert_eq!((answer.status, answer.streamed()), (200, (Vec::new(), true)));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let bench = bench();
    let ranged = |ask: Ask| ask.header(header::RANGE, "bytes=0-");
    let cases: [(Ask, u16); 9] = [
        (get("/p1/jobs/4/output/stdout?offset=x"), 400),
        (get("/p1/jobs/4/output/stdout?offset=-1"), 400),
        (get("/p1/jobs/4/output/stdout?offset=18446744073709551616"), 400),
        (get("/p1/jobs/4/output/stdout?follow=perhaps"), 400),
        (get("/p1/jobs/4/output/stdin"), 404),
        (get("/p1/jobs/3/output/stdout"), 404),
        (get("/p1/jobs/9/output/stdout"), 404),
        (ranged(get("/p1/jobs/4/output/stdout")), 416),
        // A job that runs has no ranges yet.
        (ranged(get("/p1/jobs/2/output/stdout")), 200),
    ];
    for (ask, status) in cases {
        let shown = format!("{ask:?}");
        assert_eq!(bench.send(ask).await.status, status, "{shown}");
    }
    let mut answer = bench.send(get("/p1/jobs/3/output/stdout?all_projects=1")).await;
    assert_eq!((answer.status, answer.streamed()), (200, (Vec::new(), true)));
    bench.deny("jobs:output");
    assert_eq!(bench.send(get("/p1/jobs/4/output/stdout")).await.status, 403);
}

#[tokio::test]
async fn a_follower_gets_what_comes_until_the_job_ends() {
    let bench = bench();
    bench.engine.put_live("2", output(b"one", None));
    let mut answer = bench.send(get("/p1/jobs/2/output/stdout?follow=1")).await;
    assert_eq!(answer.streamed(), (b"one".to_vec(), false));
    // Anything else that happens is nothing to it.
    bench.engine.edit(|view| put_job(view, "5", |_| ()));
    assert_eq!(answer.streamed(), (Vec::new(), false));
    bench.engine.put_live("2", output(b"onetwo", None));
    assert_eq!(answer.streamed(), (b"two".to_vec(), false));
    bench.engine.put_output("2", output(b"onetwothree", None));
    bench.engine.edit(|view| put_job(view, "2", |job| (job.state, job.attempts) = (JobState::Complete, 1)));
    assert_eq!(answer.streamed(), (b"three".to_vec(), true));
}

#[tokio::test]
async fn a_body_skips_no_bytes_but_those_of_the_gap_that_its_head_told() {
    let live = [
        // what there is as the answer begins, what there is later, what comes, whether the stream goes on
        (output(b"abcd", None), output(b"abcdef", None), "ef", true),
        (output(b"abcd", None), output(b"abcdefyz", Some((6, 24))), "ef", false),
        (output(b"abcd", None), output(b"abyz", Some((2, 24))), "", false),
        (output(b"abyz", Some((2, 24))), output(b"abzA", Some((2, 25))), "A", true),
        (output(b"abyz", Some((2, 24))), output(b"abBC", Some((2, 40))), "", false),
    ];
    for (before, later, bytes, goes_on) in live {
        let bench = bench();
        let shown = format!("{before:?}, then {later:?}");
        bench.engine.put_live("2", before.clone());
        let mut answer = bench.send(get("/p1/jobs/2/output/stdout?follow=1")).await;
        assert_eq!(answer.streamed(), (before.stdout.bytes, false), "{shown}");
        bench.engine.put_live("2", later);
        assert_eq!(answer.streamed(), (bytes.into(), !goes_on), "{shown}");
    }
}

#[tokio::test]
async fn a_second_attempt_is_another_output() {
    let bench = bench();
    bench.engine.put_live("2", output(b"one", None));
    let mut answer = bench.send(get("/p1/jobs/2/output/stdout?follow=1")).await;
    assert_eq!(answer.streamed(), (b"one".to_vec(), false));
    bench.engine.edit(|view| put_job(view, "2", |job| (job.state, job.attempts) = (JobState::New, 1)));
    assert_eq!(answer.streamed(), (Vec::new(), false));
    bench.engine.edit(|view| put_job(view, "2", |job| (job.state, job.attempts) = (JobState::Running, 2)));
    bench.engine.put_live("2", output(b"ONETWO", None));
    assert_eq!(answer.streamed(), (Vec::new(), true));
}

#[tokio::test]
async fn sixteen_are_followed_by_a_user_at_a_time() {
    let bench = bench();
    let follow = || get("/p1/jobs/2/output/stdout?follow=1");
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(bench.send(follow()).await);
    }
    assert!(streams.iter().all(|answer| answer.status == 200));
    let refused = bench.send(follow()).await;
    assert_eq!((refused.status, &*refused.top()), (429, "overLimit"));
    assert!(refused.text.contains("16 outputs"), "{}", refused.text);
    // Others, what is not followed, and what has ended are no part of it.
    assert_eq!(bench.send(follow().by("bob", "p1", &["admin"])).await.status, 200);
    assert_eq!(bench.send(get("/p1/jobs/2/output/stdout")).await.status, 200);
    streams.pop();
    let ended = bench.send(get("/p1/jobs/4/output/stdout?follow=1")).await;
    assert_eq!(ended.status, 200);
    assert_eq!(bench.send(follow()).await.status, 200);
}
