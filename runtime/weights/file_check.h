// Checks a model file while a network is made of it, and what of it is read later.
// Thread rule: one thread (it has helper threads). Errors: kCorrupt and kUnsupported, naming the
// file; for a damaged file the damage, whatever else was found.
#pragma once

#include <cstdint>
#include <functional>

#include "base/status.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"

namespace splitee::runtime {

enum class HashClaim { kRequired, kNone };

// Runs `load`, which may read what it likes of the file, then reads the rest: the content hash,
// which must be the one that the file claims (where it has to). Every value of every tensor must be
// finite. Else the status of `load`.
// Where the file has sums of its blocks (splitee.block_sums) and not `whole`, the rest is only the
// header: the sums have to make up the hash, and blocks that are read later are held against them,
// and their values looked at, by ModelBytes.
Result<std::uint64_t> check_file(ModelBytes& bytes, const Gguf& file, HashClaim claim, bool whole,
                                 const std::function<Status()>& load);

}  // namespace splitee::runtime
