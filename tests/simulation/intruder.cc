#include "tests/simulation/intruder.h"

#include "transport/wire/wire.h"

namespace splitee::simulation {

using namespace splitee;
using namespace splitee::transport;

namespace {

bool is_hello(const Packet& packet) {
  return packet.header.size() > 6 &&
         packet.header[6] == static_cast<std::byte>(MessageType::kHello);
}

}  // namespace

void Intruder::start(std::int64_t interval_us, bool stranger) {
  active_ = true;
  stranger_ = stranger;
  interval_us_ = interval_us;
  attack();
}

void Intruder::on_packet(const ConnectionPtr&, PacketPtr packet) {
  const std::span<const std::byte> frames[] = {packet->header, packet->payload};
  const auto message = decode(frames);
  const bool answered = message.ok() && std::holds_alternative<Reply>(message->body);
  world_.require(!stranger_ || !answered, "I9: a stranger is never answered", id_);
}

void Intruder::attack() {
  if (!active_) {
    if (connection_) fabric_.close_client(connection_);
    connection_ = nullptr;
    return;
  }
  if (connection_ && world_.chance(0.05)) {
    fabric_.close_client(connection_);
    connection_ = nullptr;
  }
  if (!connection_) connection_ = fabric_.connect(*this, id_, server_, 0, 0);
  if (const PacketPtr packet = message()) (void)fabric_.send(connection_, kUp, packet);
  world_.after(world_.around(interval_us_), [this] { attack(); });
}

PacketPtr Intruder::message() {
  const Envelope envelope{world_.chance(0.8) ? next_id_++ : world_.rng().next(),
                          world_.chance(0.8) ? server_.model_hash() : world_.rng().next(),
                          world_.chance(0.5) ? 0 : ~std::uint64_t{world_.rng().next()}};
  Hello hello;
  hello.window = 1 + world_.rng().below(kMaxWindow);
  const std::vector<std::int32_t> ids(1 + world_.rng().below(2 * kMaxTokens), 7);
  PacketPtr packet;
  switch (world_.rng().below(5)) {
    case 0:
      packet = to_packet(encode(envelope, hello));
      break;
    case 1:
      packet = to_packet(encode(Envelope{envelope.request_id, 0, 0}, Ping{}));
      break;
    case 2:
      packet = to_packet(encode(envelope, Refusal{RefuseCode::kBusy, "no, you"}));
      break;
    case 3:
      packet = fabric_.overheard();
      break;
    default:
      packet = to_packet(*encode_input(envelope, 1 + world_.rng().below(1u << 31), 1, ids.size(),
                                       std::as_bytes(std::span(ids))));
      break;
  }
  if (packet && stranger_ && is_hello(*packet)) return nullptr;
  if (!packet || world_.chance(0.6)) return packet;
  auto broken = std::make_shared<Packet>(*packet);
  auto& bytes = broken->payload.empty() || world_.chance(0.5) ? broken->header : broken->payload;
  if (world_.chance(0.3)) bytes.resize(world_.rng().below(100));
  if (!bytes.empty()) {
    bytes[world_.rng().below(static_cast<std::uint32_t>(bytes.size()))] =
        static_cast<std::byte>(world_.rng().next());
  }
  return broken;
}

}  // namespace splitee::simulation
