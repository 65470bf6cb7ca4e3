//! A listener is known by the kernel's word alone, and is one that only this machine reaches.

use imc::{Capability, Channel, Fault, Listener};
use schema::host::{Grant, Grants, HOST_WIDE, Purpose};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

const NO_LISTENER: Fault = Fault::HandleObject("it is not a TCP socket that listens on a loopback address");

#[test]
fn only_what_listens_on_a_loopback_address_is_a_listener() {
    let honest = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connected = TcpStream::connect(honest.local_addr().unwrap()).unwrap();
    let folder = std::env::temp_dir().join(format!("cofferdam-listener-{}", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let others: [(&str, OwnedFd); 6] = [
        ("what others reach", TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().into()),
        ("a connection", connected.into()),
        ("a socket of datagrams", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().into()),
        ("a unix socket", UnixStream::pair().unwrap().0.into()),
        ("a unix listener", UnixListener::bind(&folder).unwrap().into()),
        ("a file", std::fs::File::open("/dev/null").unwrap().into()),
    ];
    std::fs::remove_file(&folder).unwrap();
    for (name, other) in others {
        assert_eq!(Listener::new(other).unwrap_err(), NO_LISTENER, "{name}");
    }
    if let Ok(six) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Listener::new(six.into()).unwrap();
    }
    let listener = Listener::new(honest.into()).unwrap();

    let (mut creator, mut relay) = Channel::pair().unwrap();
    let handle = listener.handle(0);
    let grant = Grant { device: HOST_WIDE, purpose: Purpose::Listener, number: 0, base: 0, handle };
    creator.tell(&Grants { grants: vec![grant] }, &[listener.as_fd()]).unwrap();
    let packet = relay.receive(Some(Duration::from_secs(5))).unwrap().unwrap();
    let (grants, mut descriptors) = packet.decode::<Grants>().unwrap();
    let _: Listener = descriptors.take_as(&grants.grants[0].handle).unwrap();
}
