//! `cascade`: asks apps in turn until one has an answer.
//!
//! An app that answers, or refuses, with a status in `catch` lets the next one try; the answer of
//! the last one always holds. Every app sees the request as it came, so the body has to be whole.
//! Source: Paste, `paste/cascade.py`.
//!
//! ```toml
//! [composite.both]
//! factory = "cascade"
//! apps    = ["ours", "theirs"]
//! catch   = [404]                # the default
//! ```

use std::sync::Arc;

use pileus_sdk::{Body, Fault, Request, Stack};

/// The app that asks `apps` in turn.
pub fn cascade(apps: Vec<Stack>, catch: Vec<u16>) -> Stack {
    let both = Arc::new((apps, catch));
    Stack::from_fn(move |request: Request| {
        let both = both.clone();
        async move {
            let (apps, catch) = &*both;
            let (head, body, context) = request.into_parts();
            let body = body.bytes().ok_or_else(|| Fault::internal("a cascade without a whole body"))?;
            let mut last = Err(Fault::NoRoute);
            for app in apps {
                let request = http::Request::from_parts(head.clone(), Body::from(body.clone()));
                last = app.send(Request::with(request, context.clone())).await;
                let status = match &last {
                    Ok(response) => response.status(),
                    Err(fault) => fault.code().0,
                };
                if !catch.contains(&status.as_u16()) {
                    break;
                }
            }
            last
        }
    })
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use http::StatusCode;
    use pileus_sdk::Response;

    use super::*;

    fn answers(status: u16) -> Stack {
        Stack::from_fn(move |request: Request| {
            let mut response = Response::new(request.into_body());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            ready(if status == 404 { Err(Fault::NoRoute) } else { Ok(response) })
        })
    }

    #[tokio::test]
    async fn the_first_that_is_not_caught_answers_and_else_the_last() {
        let cases: [(&[u16], &[u16], u16); 4] = [
            (&[404, 200, 201], &[404], 200),
            (&[404, 500, 200], &[404], 500),
            (&[500, 404], &[404, 500], 404),
            (&[500, 404, 201], &[404, 500], 201),
        ];
        for (apps, catch, expected) in cases {
            let cascade = cascade(apps.iter().map(|it| answers(*it)).collect(), catch.to_vec());
            let answer = cascade.send(Request::new(Body::from("whole"))).await;
            let (status, body) = match answer {
                Ok(response) => (response.status(), response.into_body().bytes().unwrap()),
                Err(fault) => (fault.code().0, "whole".into()),
            };
            assert_eq!((status.as_u16(), &*body), (expected, &b"whole"[..]), "{apps:?}");
        }
    }
}
