//! Which call of Native Client's IMC became what, and what we changed.
//!
//! Native Client's *inter-module communications* let sandboxed modules pass each other messages with descriptors.
//! Its objects and its few limits were right, and are kept; its receiver was not meant for hostile senders.
//!
//! | Native Client | here | changed |
//! | --- | --- | --- |
//! | `imc_makeboundsock` | [`Acceptor::create`](crate::Acceptor::create) | the connect capability goes one way, so the kernel can tell it from a channel |
//! | `imc_accept` | [`Acceptor::accept`](crate::Acceptor::accept) | has a deadline; learns that the last connect capability is gone; a bad attempt costs its maker nothing but the attempt, and nobody else anything |
//! | `imc_connect` | [`Connect::connect`](crate::Connect::connect) | has a deadline; what is pending is bounded |
//! | `imc_socketpair` | [`Packets::pair`](crate::Packets::pair), [`pipe`](crate::pipe()) | ends that carry bytes alone, and so may be sent; neither makes its holder wait |
//! | a connected socket, left at start | [`Channel::pair`](crate::Channel::pair), [`Channel::inherit`](crate::Channel::inherit) | carries capabilities, and is therefore not sent |
//! | `imc_sendmsg` | [`Channel::tell`](crate::Channel::tell), [`call`](crate::Channel::call), [`reply`](crate::Channel::reply) | a message is a struct of a schema, not bytes; calls have a number, a deadline, credit and exactly one answer; sending never waits unless it is a call |
//! | `imc_recvmsg` | [`Channel::receive`](crate::Channel::receive), [`Packet::decode`](crate::Packet::decode) | every descriptor is close-on-exec, is owned before anything is looked at, and is named by the body exactly once |
//! | `imc_mem_obj_create` | [`Region::create`](crate::Region::create), [`Region::freeze`](crate::Region::freeze) | its size is sealed; it is read-write, read-only or frozen by the kernel's doing |
//! | mutex, condition variable, semaphore | [`EventCount`](crate::EventCount), [`Wake`](crate::Wake) | a word in memory and a wake. Native Client, too, gave up sending locks: who holds one need not let go |
//! | `NACL_ABI_SYNC_SOCKET` | [`Wake`](crate::Wake) | an eventfd |
//! | host descriptor | [`BlockFile`](crate::BlockFile), [`Tap`](crate::Tap), [`Kvm`](crate::Kvm) | a closed list of kinds, each of which the receiver knows by the kernel's word |
//! | connection capability as a string | none | abandoned there, and never here: what can be written down can be guessed |
//!
//! Throughout:
//!
//! - **The receiver derives kind, size and rights from the kernel.** Native Client believed the sender's tag, and the size that it
//!   claimed for memory. Here the words in a message are a claim to be compared.
//! - **Rights shrink by making a weaker object**: a fresh open for reading, a seal. Memory was always read-write there.
//! - **A socket that carries capabilities is not itself sent**, as there; the one exception, an end of a new channel that goes
//!   from a connect capability to its acceptor, is a message of its own that is taken nowhere else.
//! - **A fault has a name** and says which side was wrong. Most were `EIO`, and some ended the trusted process.
//! - **Eight descriptors a message**, as there: ten years did not raise it.
