//! A server behind a connect capability: who was given it reaches the server, and nobody else does.

use imc::schema::host::Hello;
use imc::schema::sample::Door;
use imc::{Acceptor, Capability, Channel, Connect, Fault};
use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Nobody is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u16 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("client") => client(),
        _ => server(),
    }
}

fn server() -> Result<(), Box<dyn Error>> {
    let (mut acceptor, connect) = Acceptor::create()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (mut channel, theirs) = Channel::pair()?;
        let stdin = Stdio::from(OwnedFd::from(theirs));
        clients.push(Command::new(std::env::current_exe()?).arg("client").stdin(stdin).spawn()?);
        channel.tell(&Door { connect: connect.handle(0) }, &[connect.as_fd()])?;
    }
    // From now on the clients alone can connect. When the last of them has let go, the acceptor says so.
    drop(connect);

    let mut served = 0;
    loop {
        let mut client = match acceptor.accept(Some(PATIENCE)) {
            Ok(Some(client)) => client,
            Ok(None) => return Err("no client came".into()),
            Err(Fault::PeerGone) => break,
            // Somebody used the capability for something else. That is no reason to turn the others away.
            Err(_) => continue,
        };
        // One call each. What a client does wrong ends its own channel and nothing else.
        if let Ok(Some(packet)) = client.receive(Some(PATIENCE))
            && let Some(call) = packet.call
            && let Ok((hello, _)) = packet.decode::<Hello>()
        {
            client.reply(call, &Hello { protocol: hello.protocol + 1 }, &[])?;
            served += 1;
        }
    }
    assert_eq!(served, CLIENTS);
    for mut client in clients {
        assert!(client.wait()?.success());
    }
    Ok(())
}

fn client() -> Result<(), Box<dyn Error>> {
    let mut channel = Channel::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let packet = channel.receive(Some(PATIENCE))?.ok_or("nobody gave us a way to the server")?;
    let (door, mut with) = packet.decode::<Door>()?;
    let connect: Connect = with.take_as(&door.connect)?;

    // A channel of our own to the server. We need not wait until it is accepted: the call does.
    let mut server = connect.connect(PATIENCE)?;
    let (hello, _): (Hello, _) = server.call(&Hello { protocol: 1 }, &[], PATIENCE)?;
    assert_eq!(hello.protocol, 2);
    Ok(())
}
