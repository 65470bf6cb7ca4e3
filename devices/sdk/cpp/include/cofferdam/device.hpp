// Write devices for Cofferdam virtual machines in C++.
//
// A device is registers in, interrupts out. It opens nothing, has no thread, and no clock but the `now` of each access. All
// that a guest could observe of it is its state: plain data in memory that outlives the process. What the guest sees of a
// state without asking, its outputs, is a function of the state; both take effect at once, when a call returns.
//
// Include this in the one source file of a plugin that calls `cofferdam::run`.
#pragma once

#include "declare.hpp"
#include "engine.hpp"
#include "host.hpp"
#include "lane.hpp"
#include "model.hpp"
#include "options.hpp"
#include "powers.hpp"
#include "scanout.hpp"
#include "stream.hpp"
#include "virtio.hpp"
