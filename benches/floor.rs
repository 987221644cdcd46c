//! *Floor*: bare hyper with a constant answer. Nothing that speaks HTTP here can be cheaper.

use std::{convert::Infallible, io};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Answers everything with `body`, until the process ends.
pub async fn serve(listener: TcpListener, body: Bytes) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        tokio::spawn(async move {
            let service = service_fn(move |_| {
                let mut response = Response::new(Full::new(body.clone()));
                let json = header::HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client that goes away ends its own connection.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}
