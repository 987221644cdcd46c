//! What a controller answers with. Text, JSON and streams are serializers, not second controllers.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{Body, Fault, Response, body::Stream};

const JSON: &str = "application/json";

/// An answer: a response that is easy to make.
#[derive(Debug)]
pub struct Reply(Response);

impl Reply {
    /// A JSON body, written once, straight into its bytes.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Fault> {
        let mut bytes = Vec::with_capacity(512);
        serde_json::to_writer(&mut bytes, value).map_err(Fault::internal)?;
        Ok(Self::whole(status, JSON, bytes))
    }

    /// 200 with JSON.
    pub fn ok(value: &impl Serialize) -> Result<Self, Fault> {
        Self::json(StatusCode::OK, value)
    }

    /// `{"KEY": {…}}`: one thing, as Nova shows it.
    pub fn member(status: StatusCode, key: &'static str, value: &impl Serialize) -> Result<Self, Fault> {
        Self::json(status, &Member { key, value })
    }

    /// 200 with plain text: what the old ports speak.
    pub fn text(text: impl Into<String>) -> Result<Self, Fault> {
        Ok(Self::whole(StatusCode::OK, "text/plain; charset=utf-8", text.into().into_bytes()))
    }

    /// 200 with JSON as Python's `json.dumps` writes it: what the old ports speak.
    pub fn python_json(value: &impl Serialize) -> Result<Self, Fault> {
        let bytes = crate::old::python::dumps(value).map_err(Fault::internal)?;
        Ok(Self::whole(StatusCode::OK, JSON, bytes))
    }

    /// A status without a body: 202 for what goes on, 204 for what is done.
    pub fn status(status: StatusCode) -> Result<Self, Fault> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        Ok(Self(response))
    }

    /// 200 with a body that comes as it comes.
    pub fn stream(content_type: &'static str, stream: Stream) -> Result<Self, Fault> {
        let mut response = Response::new(Body::Stream(stream));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(Self(response))
    }

    /// With another status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        *self.0.status_mut() = status;
        self
    }

    /// With another header; one that no header can hold is left out.
    pub fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    /// The bytes of JSON that was written before.
    pub(crate) fn written(bytes: Bytes) -> Self {
        Self::whole(StatusCode::OK, JSON, bytes)
    }

    /// Its bytes, where it is 200 with JSON and no header of its own.
    pub(crate) fn plain_json(&self) -> Option<Bytes> {
        let headers = self.0.headers();
        let plain = self.0.status() == StatusCode::OK && headers.len() == 1;
        let json = headers.get(header::CONTENT_TYPE).is_some_and(|media| media == JSON);
        self.0.body().bytes().filter(|_| plain && json)
    }

    /// The response.
    pub fn into_response(self) -> Response {
        self.0
    }

    fn whole(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Body::from(bytes.into()));
        *response.status_mut() = status;
        // There is none yet.
        response.headers_mut().append(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self(response)
    }
}

struct Member<'a, T> {
    key: &'static str,
    value: &'a T,
}

impl<T: Serialize> Serialize for Member<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry(self.key, self.value)?;
        map.end()
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self(response)
    }
}
