// Checks a whole model file while a network is made of it.
// Thread rule: one thread (it has helper threads). Errors: kCorrupt and kUnsupported, naming the
// file; for a damaged file the damage, whatever else was found.
#pragma once

#include <cstdint>
#include <functional>

#include "base/status.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"

namespace splitee::runtime {

// Runs `load`, which may read what it likes of the file, then reads the rest: the content hash,
// which must be the one that the file claims (where `claims_hash`). Every value of every tensor
// must be finite. Else the status of `load`.
Result<std::uint64_t> check_file(ModelBytes& bytes, const Gguf& file, bool claims_hash,
                                 const std::function<Status()>& load);

}  // namespace splitee::runtime
