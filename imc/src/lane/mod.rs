//! Lanes: the access path of one device, over a carrier.
