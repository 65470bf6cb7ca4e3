//! ipc-channel, by its channels of bytes.

use crate::{Answerer, Trip, check, clock};
use anyhow::Result;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};
use std::process::Stdio;

pub fn ask(trip: Trip, answerer: &Answerer) -> Result<Vec<f64>> {
    let (server, place) = IpcOneShotServer::<(IpcBytesSender, IpcBytesReceiver)>::new()?;
    let running = answerer.start(Stdio::null(), &place)?;
    let (_, (to, from)) = server.accept()?;
    let payload = vec![1; trip.there];
    let samples = clock::samples(|count| {
        for _ in 0..count {
            to.send(&payload)?;
            check(&from.recv()?, trip.back)?;
        }
        anyhow::Ok(())
    })?;
    drop(to);
    running.join()?;
    Ok(samples)
}

pub fn answer(trip: Trip, place: &str) -> Result<()> {
    let (to, their_from) = bytes_channel()?;
    let (their_to, from) = bytes_channel()?;
    IpcSender::connect(place.to_owned())?.send((their_to, their_from))?;
    let payload = vec![1; trip.back];
    while let Ok(bytes) = from.recv() {
        check(&bytes, trip.there)?;
        to.send(&payload)?;
    }
    Ok(())
}
