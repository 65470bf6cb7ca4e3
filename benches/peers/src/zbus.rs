//! zbus, peer to peer over a Unix stream.

use crate::{Answerer, Trip, check, clock};
use anyhow::Result;
use serde_bytes::{ByteBuf, Bytes};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use tokio::runtime::Builder;
use zbus::connection;

const PATH: &str = "/echo";
const INTERFACE: &str = "cofferdam.Echo";

pub fn ask(trip: Trip, answerer: &Answerer) -> Result<Vec<f64>> {
    let (ours, theirs) = UnixStream::pair()?;
    let running = answerer.start(OwnedFd::from(theirs), "")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let connection = runtime.block_on(connection::Builder::unix_stream(ours).p2p().build())?;
    let payload = vec![1; trip.there];
    let samples = clock::samples(|count| {
        runtime.block_on(async {
            for _ in 0..count {
                let there = (Bytes::new(&payload),);
                let reply = connection.call_method(None::<&str>, PATH, Some(INTERFACE), "Call", &there).await?;
                let body = reply.body();
                let back: &[u8] = body.deserialize()?;
                check(back, trip.back)?;
            }
            anyhow::Ok(())
        })
    })?;
    runtime.block_on(connection.close())?;
    drop(runtime);
    running.join()?;
    Ok(samples)
}

pub fn answer(trip: Trip, _: &str) -> Result<()> {
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let guid = zbus::Guid::generate();
        let echo = Echo { trip, payload: vec![1; trip.back] };
        let builder = connection::Builder::unix_stream(stream).server(guid).p2p().serve_at(PATH, echo);
        builder.build().await?.closed().await;
        Ok(())
    })
}

struct Echo {
    trip: Trip,
    payload: Vec<u8>,
}

#[zbus::interface(name = "cofferdam.Echo")]
impl Echo {
    fn call(&self, there: ByteBuf) -> zbus::fdo::Result<ByteBuf> {
        check(&there, self.trip.there).map_err(|error| zbus::fdo::Error::InvalidArgs(error.to_string()))?;
        Ok(ByteBuf::from(self.payload.clone()))
    }
}
