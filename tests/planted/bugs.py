"""Bugs to plant, one at a time: name, file, the text to replace (which must occur once), its
replacement, and the test that has to find it. A text that is not there any more is a failure: the
bug must be planted anew where the code has moved to."""

# One file of a suite, up to the first failure.
def unit(folder, file):
    return (f"tests/{folder}/{folder}_test", f"-sf=*{file}*", "-aa=1")


BAD_FILES = unit("runtime", "_files_test")
SIMULATION = ("tests/simulation/simulation_test",)
POWER_CUTS = ("tests/base/power_cut_test",)
EACH_BYTE = ("tests/faults/reset_test",)


def fuzz(name):
    return (f"tests/fuzz/replay_{name}",)


PARSER = "runtime/file/gguf_parse.cc"
CLIENT = "transport/client/client_core.cc"
SERVER = "transport/server/server_core.cc"
AUDITED = "policy/learners/audited.cc"

BUGS = [
    # The model file: the classes of published faults of GGUF readers.
    ("counts of keys and tensors unchecked (CVE-2024-23605, CVE-2024-21836)", PARSER,
     "if (claimed > limit || !(CheckedSize(claimed) * least).at_most(remaining())) {",
     "if (claimed > limit || !(CheckedSize(claimed) * least).ok()) {", BAD_FILES),
    ("string length unchecked (CVE-2024-23496)", PARSER,
     "if (length > remaining()) {", "if (length > (std::uint64_t{1} << 62)) {", BAD_FILES),
    ("arrays of arrays taken (CVE-2024-21825)", PARSER,
     "if (entry.element == GgufType::kArray) {", "if (entry.count == 0) {", BAD_FILES),
    ("more dimensions than there is room for (CVE-2024-21802)", PARSER,
     "if (rank < 1 || rank > tensor.dims.size()) {", "if (rank < 1 || rank > 8) {", BAD_FILES),
    ("product of the dimensions wraps (CVE-2026-33298)", PARSER,
     "size = size * tensor.dims[i];", "size = CheckedSize(size.value() * tensor.dims[i]);", BAD_FILES),
    ("end of a tensor off by one (CVE-2026-27940)", PARSER,
     "if (!end.at_most(file_size_)) {", "if (!end.at_most(file_size_ + 1)) {", BAD_FILES),
    ("padding wraps (CVE-2025-53630)", "base/checked_size.h",
     "CheckedSize up = *this + (alignment - 1);", "CheckedSize up(value_ + (alignment - 1));", unit("base", "checked_size_test")),
    ("alignment that is no power of two", PARSER,
     "if (!std::has_single_bit(*alignment) || *alignment < kMinAlignment ||", "if (*alignment < kMinAlignment ||",
     BAD_FILES),
    ("unknown tensor types taken", PARSER,
     "if (tensor_type_bytes(tensor.type) != 0) return {};", "if (type < 64) return {};", BAD_FILES),
    ("content hash not compared", "runtime/weights/file_check.cc",
     "if (expected && *found != expected->hash) {", "if (expected && *found == 0) {", BAD_FILES),
    ("exits in any order (the layers[32] class)", "runtime/file/model_keys.cc",
     "    if (layer <= before) {", "    if (layer == 0) {", BAD_FILES),
    # The wire.
    ("reply larger than its classes", "transport/wire/wire.cc",
     "if (payload.size() != kReplyFixedBytes + sizeof(float) * fields.cols) {",
     "if (payload.size() < kReplyFixedBytes + sizeof(float) * fields.cols) {", unit("transport", "wire_")),
    ("sum of a reply's probabilities unchecked", "transport/wire/wire.cc",
     "if (std::abs(sum - 1.0) > 0.001)", "if (std::abs(sum - 1.0) > 100)", unit("transport", "wire_")),
    ("payload's checksum ignored", "transport/wire/wire.cc",
     "if (!is_infer && payload_checksum(payload) != fields->checksum) return corrupt(\"checksum\");",
     "if (!is_infer && fields->checksum == 1) return corrupt(\"checksum\");", SIMULATION),
    # The server.
    ("place in the window never freed", SERVER,
     "  --session->in_flight;\n", "", SIMULATION),
    ("work that is too late is done", SERVER,
     "const bool late = job.expires_us <= now_us;", "const bool late = job.expires_us <= 0;", SIMULATION),
    ("answers of a batch mixed up", SERVER,
     "Answer& answer = executed.answers[runnable.jobs[i]];",
     "Answer& answer = executed.answers[runnable.jobs[results.size() - 1 - i]];", SIMULATION),
    ("session of another key used", "transport/server/sessions.cc",
     "it->second->user != user", "(it->second->user != user && user == peer)", unit("transport", "sessions_test")),
    ("requests for another model run", SERVER,
     "  if (from.model_hash != shape.model_hash) {\n    return Refusal{RefuseCode::kWrongModel,",
     "  if (from.model_hash == 0) {\n    return Refusal{RefuseCode::kWrongModel,",
     unit("transport", "server_core_test")),
    ("answers of an old model in the name of the new one", SERVER,
     "const Envelope from{answer.address.request_id, answer.model_hash,",
     "const Envelope from{answer.address.request_id, model_->shape.model_hash,",
     unit("transport", "server_core_test")),
    ("a message is taken twice", SERVER,
     "if (id <= session->last_request_id) return refuse_bad(id, \"request id does not grow\", now_us);\n", "",
     unit("transport", "server_attack_test")),
    ("reading stops where a peer sends much (libzmq issue 4364)", "transport/zmq/socket.cc",
     "socket.set(rcvhwm, 0);", "socket.set(rcvhwm, high_water);", unit("transport", "server_attack_test")),
    ("bytes that wait in ZeroMQ without bound", "transport/zmq/connection_guard.cc",
     "  if (connection.unread_bytes > limits_.max_unread_bytes) return &counters_.floods;\n", "",
     unit("transport", "server_attack_test")),
    # The queue.
    ("bytes that wait never given back", "transport/server/scheduler.cc",
     "  bytes_ -= bytes_of_job(job);\n", "", unit("transport", "scheduler_test")),
    ("bound of the queue in bytes ignored", "transport/server/scheduler.cc",
     "return jobs_ < limits_.max_jobs && job_bytes <= limits_.max_bytes - bytes_;",
     "return jobs_ < limits_.max_jobs && job_bytes <= limits_.max_bytes;", SIMULATION),
    ("different layers in one batch", "transport/server/scheduler.cc",
     "job.infer.layer != batch.first->infer.layer ||", "job.infer.layer < batch.first->infer.layer ||",
     unit("transport", "scheduler_test")),
    ("a batch makes its most urgent request late", "transport/server/scheduler.cc",
     "  return needed_us <= static_cast<double>(left_us);\n", "  return needed_us >= 0 || left_us > 0;\n",
     unit("transport", "scheduler_test")),
    ("what has been done of a running batch is still to come", "transport/server/scheduler.cc",
     "std::abs(static_cast<double>(batch.work) - done);", "static_cast<double>(batch.work) + 0 * done;",
     unit("transport", "scheduler_test")),
    # The client.
    ("requests outlive their deadline", CLIENT,
     "if (current->second.expires_us > now_us) continue;",
     "if (current->second.expires_us + 5'000'000 > now_us) continue;", SIMULATION),
    ("place in the link's window never freed", CLIENT,
     "  --links_[pending.link].in_flight;\n", "", SIMULATION),
    ("answer taken from another link", CLIENT,
     "it != pending_.end() && it->second.link == index ? it", "it != pending_.end() && index + 1 > 0 ? it", unit("transport", "client_core_test")),
    ("server with another model welcomed", CLIENT,
     "  const std::int64_t retry_us = now_us + slow_retry_us();\n  if (from.model_hash != options_.model_hash) {",
     "  const std::int64_t retry_us = now_us + slow_retry_us();\n  if (from.model_hash == 0) {", unit("transport", "client_test")),
    ("ZeroMQ's thread waits for a monitor that is gone", "transport/client/connector.cc",
     "  stop_monitor(channel.socket());\n", "", EACH_BYTE),
    ("a clock that has jumped is never measured anew", CLIENT,
     "      if (link.state == Link::State::kReady) greet_again(index, now_us);\n      break;\n    case RefuseCode::kWrongModel:",
     "      if (link.state == Link::State::kReady && code == RefuseCode::kNoSession) greet_again(index, now_us);\n"
     "      break;\n    case RefuseCode::kWrongModel:", SIMULATION),
    # The policy and its state.
    ("an outcome counts twice", "policy/learners/policy_base.h",
     "    slot = 0;\n", "", SIMULATION),
    ("state's checksum ignored", "policy/state.cc",
     "if (read(bytes.substr(content.size()), kChecksumBytes) != hash_of(content)) {", "if (content.empty()) {",
     SIMULATION),
    ("numbers of a state that are not finite", "policy/state.cc",
     "  require(std::abs(read_value) <= most);  // false for NaN\n", "  require(!(std::abs(read_value) > most));\n", unit("policy", "state_test")),
    ("a refused state leaves its traces", "policy/learners/policy_base.cc",
     "    SPLITEE_CHECK(restore(before));\n", "", unit("policy", "state_test")),
    # Answers that are lost, come twice, or are another's.
    ("requests dropped from the queue are told to nobody", SERVER,
     "    dropped.push_back(shed_answer(job, std::move(address), reason));\n", "", SIMULATION),
    ("a request that is answered stays open", CLIENT, "  pending_.erase(it);\n", "", SIMULATION),
    ("requests of a batch share their values", SERVER,
     "add(runnable, jobs[i], i, scratch.values[i], executed);", "add(runnable, jobs[i], i, scratch.values[0], executed);",
     SIMULATION),
    # The certificate.
    ("coins recorded as more likely than they were", AUDITED,
     "learn_audit(outcome, static_cast<double>(own.probability));",
     "learn_audit(outcome, own.audited ? 1.0 : 0.5);", SIMULATION),
    ("audits count only where there is a link", AUDITED,
     "if (outcome.route == Route::kAudit) {", "if (outcome.route == Route::kAudit && outcome.plan.link == LinkState::kUp) {",
     SIMULATION),
    ("a coin is thrown away once the exit has said what it says", AUDITED,
     "    if (!slot_.audited) return action;\n",
     "    slot_.audited = slot_.audited && (arm > 0 || action != Action::kExit || reading.confidence < 0.9f);\n"
     "    if (!slot_.audited) return action;\n", unit("policy", "audited_test")),
    ("a state restored twice draws the same coins", AUDITED,
     "if (entropy != 0) rng_ =", "if (entropy == 0) rng_ =", SIMULATION),
    # What grows, and who comes in.
    ("sessions without bound", "transport/server/sessions.cc",
     "if (sessions_.size() >= most_) {", "if (sessions_.size() >= most_ + 100'000) {", SIMULATION),
    ("another version taken for this one", "transport/wire/wire.cc",
     "if (fields.version != kProtocolVersion) {", "if (fields.version == 0) {", SIMULATION),
    ("requests of who was not welcomed are run", SERVER,
     "    return refuse(id, {RefuseCode::kNoSession, \"say hello first\"}, now_us);\n",
     "    session = &sessions_.start(incoming.peer, incoming.user);\n", SIMULATION),
    ("keys that are not on the list let in", "transport/zmq/zap.cc",
     "if (rules_.allowed.count(request[6]) == 0) {", "if (rules_.allowed.empty()) {", unit("transport", "curve_test")),
    ("a file renamed before its bytes are on the disk", "base/file.cc",
     "return ::fsync(descriptor) == 0 ? Status() : system_error(path, \"sync\");", "return {};", POWER_CUTS),
    # What is read as text.
    ("confidence above 1 in a trace", "policy/replay/trace.cc",
     "!(value >= 0.0 && value <= 1.0)", "!(value >= 0.0 && value <= 2.0)", fuzz("trace")),
    ("trace row with too few fields", "policy/replay/trace.cc",
     "if (at == end) return error(column, \"missing: the line ends before it\");", "if (at == end) return {};",
     unit("policy", "trace_test")),
    ("words that are too long are cut instead", "runtime/text/tokenizer.cc",
     "return chars_ > kMaxWordChars; }", "return chars_ > kMaxWordChars + 1; }", unit("runtime", "tokenizer_test")),
    ("labels without bound in a TSV", "tools/common/text_rows.cc",
     "if (!names_only_ && number && *number < labels_.size())", "if (!names_only_ && number)", fuzz("tsv")),
]  # fmt: skip
