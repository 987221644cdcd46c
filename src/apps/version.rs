//! `version`: the document of the one version that it is mounted at, for clients that look for its range
//! of microversions before their first call.
//!
//! `GET /v2` and `GET /v2/` answer 200, in JSON or XML. `version` and `min_version` are empty: there are no
//! microversions. The answer is the same for every caller and needs no token, so the app stands beside the
//! pipeline with the authenticator: `"/v2" = "version"` and `"/v2/+" = "v2"` in a urlmap.
//! Source: Nova, `nova/api/openstack/compute/versions.py`, `VersionsV2`; links to manuals are left out.
//!
//! ```toml
//! [app.version]                             # may be left out
//! link_prefix = "https://cloud.example.org" # of links, behind a proxy; default: http and the Host header
//! ```

use http::{Method, StatusCode};
use pileus_sdk::{Fault, Media, Reply, Request, Response, Stack, json};
use serde::Deserialize;

use super::versions::{TYPE, UPDATED, XMLNS, host, varying, xml_document, xml_types};
use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{AppKind, BuildDeps},
};

/// Entry of [`APPS`](crate::pipeline::APPS).
pub const KIND: AppKind = AppKind { name: "version", needs: &[], public: true, mount: |_| None, factory };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    link_prefix: Option<String>,
}

fn factory(section: &Section, _: &BuildDeps) -> Result<Stack, Diagnostic> {
    let Config { link_prefix } = section.parse()?;
    let link_prefix: Option<std::sync::Arc<str>> = link_prefix.map(Into::into);
    Ok(Stack::forward(move |request| answer(link_prefix.as_deref(), &request).into()))
}

fn answer(link_prefix: Option<&str>, request: &Request) -> Result<Response, Fault> {
    let path = request.uri().path();
    let (above, below) = path.split_at_checked(request.context().mounted as usize).unwrap_or(("", path));
    if !below.trim_matches('/').is_empty() {
        return Err(Fault::NoRoute);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allow = "GET, HEAD, OPTIONS".to_owned();
        return Err(Fault::MethodNotAllowed { method: request.method().clone(), allow });
    }
    let href = format!("{}{above}/", host(link_prefix, request));
    if request.context().media == Media::Xml {
        let attributes = format!("status=\"CURRENT\" updated=\"{UPDATED}\" version=\"\" min_version=\"\"");
        let start = format!("<version {XMLNS} id=\"v2.0\" {attributes}>{}", xml_types());
        return Ok(xml_document(StatusCode::OK, &start, &href, "</version>"));
    }
    let version = json!({
        "id": "v2.0", "status": "CURRENT", "version": "", "min_version": "", "updated": UPDATED,
        "links": [{ "rel": "self", "href": href }],
        "media-types": [{ "base": "application/json", "type": TYPE }],
    });
    Ok(varying(Reply::ok(&json!({ "version": version }))?.into_response()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};
    use pileus_sdk::Body;

    use super::*;

    fn ask(method: Method, path: &str, media: Media) -> (u16, String) {
        let mut request = Request::new(Body::Empty);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("h:1"));
        request.context_mut().mounted = 3;
        request.context_mut().media = media;
        let response = answer(None, &request).unwrap_or_else(Fault::into_response);
        let text = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
        (response.status().as_u16(), text)
    }

    #[test]
    fn the_document_is_at_the_mount_and_nowhere_else() {
        let document = json!({ "version": {
            "id": "v2.0", "status": "CURRENT", "version": "", "min_version": "",
            "updated": "2011-01-21T11:33:21Z", "links": [{ "rel": "self", "href": "http://h:1/v2/" }],
            "media-types": [{
                "base": "application/json", "type": "application/vnd.openstack.compute+json;version=2",
            }],
        }});
        let document = document.to_string();
        let rows = [
            (Method::GET, "/v2", 200),
            (Method::GET, "/v2/", 200),
            (Method::GET, "/v2//", 200),
            (Method::GET, "/v2/?limit=1", 200),
            (Method::HEAD, "/v2", 200),
            (Method::OPTIONS, "/v2", 204),
            (Method::POST, "/v2", 405),
            (Method::GET, "/v2/default", 404),
        ];
        for (method, path, status) in rows {
            let (found, text) = ask(method.clone(), path, Media::Json);
            assert_eq!(found, status, "{method} {path}");
            assert!(status != 200 || text == document, "{method} {path}: {text}");
        }
        let (status, text) = ask(Method::GET, "/v2/", Media::Xml);
        let expected = "<?xml version='1.0' encoding='UTF-8'?>\n\
            <version xmlns=\"http://docs.openstack.org/common/api/v1.0\" \
            xmlns:atom=\"http://www.w3.org/2005/Atom\" id=\"v2.0\" status=\"CURRENT\" \
            updated=\"2011-01-21T11:33:21Z\" version=\"\" min_version=\"\"><media-types>\
            <media-type base=\"application/json\" type=\"application/vnd.openstack.compute+json;version=2\"/>\
            </media-types><atom:link href=\"http://h:1/v2/\" rel=\"self\"/></version>";
        assert_eq!((status, text.as_str()), (200, expected));
    }
}
