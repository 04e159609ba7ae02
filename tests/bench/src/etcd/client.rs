//! As much of etcd's v3 API as the comparison needs: put and linearizable get, over gRPC as etcd's own clients speak it.
//!
//! The messages are two fields long, so they are written by hand: no code generator, no second runtime in the load program.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request, Version};
use tokio::net::TcpStream;

/// One connection.
pub struct EtcdClient {
    requests: SendRequest<Bytes>,
    authority: String,
}

impl EtcdClient {
    pub async fn connect(addr: SocketAddr) -> Result<EtcdClient> {
        let stream = TcpStream::connect(addr)
            .await
            .context("connecting to etcd")?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        // Ends with the last handle on `requests`; what it fails with, the requests fail with.
        tokio::spawn(async move { drop(connection.await) });
        Ok(EtcdClient {
            requests,
            authority: addr.to_string(),
        })
    }

    /// Sets a key.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut message = BytesMut::new();
        field(&mut message, 1, key);
        field(&mut message, 2, value);
        self.call("/etcdserverpb.KV/Put", &message).await.map(drop)
    }

    /// Reads a key, linearizably; an error if it is not there.
    pub async fn get(&mut self, key: &[u8]) -> Result<Bytes> {
        let mut message = BytesMut::new();
        field(&mut message, 1, key);
        let answer = self.call("/etcdserverpb.KV/Range", &message).await?;
        ensure!(
            answer.windows(key.len()).any(|bytes| bytes == key),
            "etcd has no such key"
        );
        Ok(answer)
    }

    async fn call(&mut self, path: &str, message: &[u8]) -> Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        std::future::poll_fn(|context| self.requests.poll_ready(context)).await?;
        let (response, mut body) = self.requests.send_request(request, false)?;
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.put_slice(message);
        body.send_data(frame.freeze(), true)?;
        let mut stream = response.await?.into_body();
        let mut answer = BytesMut::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            answer.put_slice(&data);
        }
        let trailers = stream.trailers().await?;
        let status = trailers.as_ref().and_then(|t| t.get("grpc-status"));
        match status.map(|status| status.as_bytes()) {
            Some(b"0") => Ok(answer.freeze()),
            other => bail!("etcd answered {path} with status {other:?} {trailers:?}"),
        }
    }
}

/// A field of bytes in protobuf's encoding.
fn field(out: &mut BytesMut, number: u8, bytes: &[u8]) {
    out.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.put_slice(bytes);
}
