//! `versions`: which versions of the API there are, for clients that ask before they choose.
//!
//! `GET /` answers 200 with the list; any other path, by any method, 300 with where that path would
//! be in each version. Both in XML for who wants that. Tells everybody the same, and needs no token.
//! Source: Nova (Folsom), `nova/api/openstack/compute/versions.py`.
//!
//! ```toml
//! [app.versions]                            # may be left out
//! path        = "/v2"                       # where the version is mounted
//! link_prefix = "https://cloud.example.org" # of links, behind a proxy; default: as the client called
//! ```

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use pileus_sdk::{Body, Fault, Media, Reply, Request, Response, Stack, json, media::xml_text};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{AppKind, BuildDeps},
};

/// How [`APPS`](crate::pipeline::APPS) knows it.
pub const KIND: AppKind = AppKind { name: "versions", needs: &[], public: true, mount: |_| None, factory };

/// When the version last changed its meaning; Nova's own for v2.0.
pub(super) const UPDATED: &str = "2011-01-21T11:33:21Z";

/// What the version speaks.
pub(super) const TYPE: &str = "application/vnd.openstack.compute+json;version=2";

/// Namespaces of documents about versions.
pub(super) const XMLNS: &str =
    "xmlns=\"http://docs.openstack.org/common/api/v1.0\" xmlns:atom=\"http://www.w3.org/2005/Atom\"";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "path")]
    path: String,
    link_prefix: Option<String>,
}

fn path() -> String {
    "/v2".into()
}

fn factory(section: &Section, _: &BuildDeps) -> Result<Stack, Diagnostic> {
    let config: Config = section.parse()?;
    if !config.path.starts_with('/') {
        return Err(section.wrong("path", format!("`{}` does not start with `/`", config.path)));
    }
    let config = Arc::new(config);
    Ok(Stack::forward(move |request| answer(&config, &request).into()))
}

fn answer(config: &Config, request: &Request) -> Result<Response, Fault> {
    let mounted = request.context().mounted as usize;
    let path = request.uri().path();
    let (above, below) = path.split_at_checked(mounted).unwrap_or(("", path));
    let host = host(config.link_prefix.as_deref(), request);
    let base = format!("{host}{above}{}", config.path.trim_end_matches('/'));
    let xml = request.context().media == Media::Xml;
    if below.trim_matches('/').is_empty() {
        if xml {
            let updated = format!(" updated=\"{UPDATED}\"");
            return Ok(in_xml(StatusCode::OK, "versions", &updated, "", &format!("{base}/")));
        }
        let links = [json!({ "rel": "self", "href": format!("{base}/") })];
        let version = json!({ "id": "v2.0", "status": "CURRENT", "updated": UPDATED, "links": links });
        return Ok(varying(Reply::ok(&json!({ "versions": [version] }))?.into_response()));
    }
    let slash = if below.starts_with('/') { "" } else { "/" };
    let href = format!("{base}{slash}{below}");
    if xml {
        return Ok(in_xml(StatusCode::MULTIPLE_CHOICES, "choices", "", &xml_types(), &href));
    }
    let choice = json!({
        "id": "v2.0",
        "status": "CURRENT",
        "links": [{ "rel": "self", "href": href }],
        "media-types": [{ "base": "application/json", "type": TYPE }],
    });
    let choices = json!({ "choices": [choice] });
    Ok(varying(Reply::json(StatusCode::MULTIPLE_CHOICES, &choices)?.into_response()))
}

/// The start of links: the setting `link_prefix`, else the address that the client called.
pub(super) fn host(link_prefix: Option<&str>, request: &Request) -> String {
    match link_prefix {
        Some(prefix) => prefix.trim_end_matches('/').to_owned(),
        None => request.origin(),
    }
}

/// As Nova's templates write it: a declaration, links as Atom has them.
fn in_xml(status: StatusCode, root: &str, attributes: &str, types: &str, href: &str) -> Response {
    let version = format!("<version id=\"v2.0\" status=\"CURRENT\"{attributes}>{types}");
    xml_document(status, &format!("<{root} {XMLNS}>{version}"), href, &format!("</version></{root}>"))
}

/// A document with one link.
pub(super) fn xml_document(status: StatusCode, start: &str, href: &str, end: &str) -> Response {
    let link = format!("<atom:link href=\"{}\" rel=\"self\"/>", xml_text(href));
    let text = format!("<?xml version='1.0' encoding='UTF-8'?>\n{start}{link}{end}");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let xml = HeaderValue::from_static(Media::Xml.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, xml);
    varying(response)
}

/// The media types of a version.
pub(super) fn xml_types() -> String {
    format!("<media-types><media-type base=\"application/json\" type=\"{TYPE}\"/></media-types>")
}

/// A cache may keep a document that is the same for all clients, for each form, and has to ask before it uses it.
pub(super) fn varying(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn ask(settings: &str, mounted: u32, path: &str, host: Option<&str>) -> (u16, Value) {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = path.parse().unwrap();
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host.parse().unwrap());
        }
        request.context_mut().mounted = mounted;
        let config = Section::from_text("app.versions", settings).parse().unwrap();
        let response = answer(&config, &request).unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.into_body().bytes().unwrap()).unwrap())
    }

    #[test]
    fn the_list_and_the_choices() {
        let (status, list) = ask("", 0, "/", Some("host:8774"));
        let expected = json!({ "versions": [{
            "id": "v2.0", "status": "CURRENT", "updated": "2011-01-21T11:33:21Z",
            "links": [{ "rel": "self", "href": "http://host:8774/v2/" }],
        }]});
        assert_eq!((status, list), (200, expected));

        let (status, choices) = ask("", 0, "/images/1", Some("host"));
        let expected = json!({ "choices": [{
            "id": "v2.0", "status": "CURRENT",
            "links": [{ "rel": "self", "href": "http://host/v2/images/1" }],
            "media-types": [{
                "base": "application/json", "type": "application/vnd.openstack.compute+json;version=2",
            }],
        }]});
        assert_eq!((status, choices), (300, expected));
    }

    #[test]
    fn both_are_there_in_xml() {
        let rows = [
            ("/", 200, "<versions ", " updated=\"2011-01-21T11:33:21Z\">", "http://h/v2/"),
            (
                "/a?b",
                300,
                "<choices ",
                "><media-types><media-type base=\"application/json\"",
                "http://h/v2/a",
            ),
        ];
        for (path, status, root, version, href) in rows {
            let mut request = Request::new(Body::Empty);
            *request.uri_mut() = path.parse().unwrap();
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("h"));
            request.context_mut().media = Media::Xml;
            let config = Section::from_text("app.versions", "").parse().unwrap();
            let response = answer(&config, &request).unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/xml");
            let text = String::from_utf8(response.into_body().bytes().unwrap().to_vec()).unwrap();
            assert!(text.starts_with("<?xml version='1.0' encoding='UTF-8'?>\n"), "{text}");
            let link = format!("<atom:link href=\"{href}\" rel=\"self\"/></version>");
            for part in [root, version, &link] {
                assert!(text.contains(part), "{path}: {part}: {text}");
            }
        }
    }

    #[test]
    fn links_know_where_the_server_is() {
        let cases = [
            // settings, mounted, path, Host, link
            ("", 0, "http://by-h2:1/", None, "http://by-h2:1/v2/"),
            ("", 0, "http://target/", Some("header"), "http://target/v2/"),
            // Nothing says where the server is: the link is relative to it.
            ("", 0, "/", None, "/v2/"),
            ("", 8, "/compute", Some("h"), "http://h/compute/v2/"),
            ("path = \"/v3/\"", 0, "//", Some("h"), "http://h/v3/"),
            ("link_prefix = \"https://x.org/\"", 2, "/c", Some("h"), "https://x.org/c/v2/"),
        ];
        for (settings, mounted, path, host, link) in cases {
            let (_, list) = ask(settings, mounted, path, host);
            assert_eq!(list["versions"][0]["links"][0]["href"], link, "{settings} {path}");
        }
    }
}
