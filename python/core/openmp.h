// The threads of an OpenMP runtime that is in the process already, as PyTorch's wheel brings one.
//
// Its threads spin for a while after each parallel region, to be there for the next. A pool of our own then fights with them for
// the cores, twice for every layer of a model: they while we compute, our workers' places taken while they do. So inside such
// a program qkv's tasks run on those threads.
#pragma once

namespace qkv::python {

// From now on qkv's tasks run on that runtime's threads, or, with `share` false, on qkv's own again. Returns whether they are
// shared: false where no runtime is loaded. Not to be called while another thread is inside qkv. A child made by fork, in which
// the runtime's threads do not exist, goes back to qkv's own.
bool share_openmp(bool share);

}  // namespace qkv::python
