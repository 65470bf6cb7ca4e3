//! capnp-rpc over a Unix stream.

use crate::{Answerer, Trip, check, clock};
use anyhow::Result;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

#[allow(clippy::all, dead_code)]
mod echo_capnp {
    include!(concat!(env!("OUT_DIR"), "/echo_capnp.rs"));
}
use echo_capnp::echo;

pub fn ask(trip: Trip, answerer: &Answerer) -> Result<Vec<f64>> {
    let (ours, theirs) = UnixStream::pair()?;
    let running = answerer.start(OwnedFd::from(theirs), "")?;
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let tasks = LocalSet::new();
    let (client, system) = tasks.block_on(&runtime, async {
        let mut system = RpcSystem::new(network(ours, Side::Client)?, None);
        anyhow::Ok((system.bootstrap::<echo::Client>(Side::Server), system))
    })?;
    let disconnector = system.get_disconnector();
    let connection = tasks.spawn_local(system);
    let payload = vec![1; trip.there];
    let samples = clock::samples(|count| {
        tasks.block_on(&runtime, async {
            for _ in 0..count {
                let mut request = client.call_request();
                request.get().set_there(&payload);
                let response = request.send().promise.await?;
                check(response.get()?.get_back()?, trip.back)?;
            }
            anyhow::Ok(())
        })
    })?;
    drop(client);
    tasks.block_on(&runtime, disconnector)?;
    connection.abort();
    drop((tasks, runtime));
    running.join()?;
    Ok(samples)
}

pub fn answer(trip: Trip, _: &str) -> Result<()> {
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        let server: echo::Client = new_client(Echo { trip, payload: vec![1; trip.back] });
        // An error is how a caller that hangs up looks.
        let _ = RpcSystem::new(network(stream, Side::Server)?, Some(server.client)).await;
        Ok(())
    })
}

type Reader = tokio_util::compat::Compat<tokio::io::BufReader<tokio::net::unix::OwnedReadHalf>>;

fn network(stream: UnixStream, side: Side) -> Result<Box<VatNetwork<Reader>>> {
    stream.set_nonblocking(true)?;
    let (from, to) = tokio::net::UnixStream::from_std(stream)?.into_split();
    let (from, to) = (tokio::io::BufReader::new(from).compat(), tokio::io::BufWriter::new(to).compat_write());
    Ok(Box::new(VatNetwork::new(from, to, side, Default::default())))
}

struct Echo {
    trip: Trip,
    payload: Vec<u8>,
}

impl echo::Server for Echo {
    async fn call(self: Rc<Self>, params: echo::CallParams, mut results: echo::CallResults) -> capnp::Result<()> {
        let sent = check(params.get()?.get_there()?, self.trip.there);
        sent.map_err(|error| capnp::Error::failed(error.to_string()))?;
        results.get().set_back(&self.payload);
        Ok(())
    }
}
