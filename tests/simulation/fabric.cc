#include "tests/simulation/fabric.h"

#include <algorithm>
#include <cstring>

namespace splitee::simulation {
namespace {

constexpr std::size_t kHighWater = 12;  // packets on the way in one direction
constexpr std::int64_t kRetryUs = 100'000;
constexpr std::size_t kHeard = 16;

void remember(std::deque<PacketPtr>& packets, const PacketPtr& packet) {
  packets.push_back(packet);
  if (packets.size() > kHeard) packets.pop_front();
}

}  // namespace

PacketPtr to_packet(const transport::Frames& frames) {
  const auto payload = frames.payload.bytes();
  return std::make_shared<Packet>(
      Packet{{frames.header.begin(), frames.header.end()}, {payload.begin(), payload.end()}});
}

std::uint16_t version_of(const Packet& packet) {
  return transport::readable_version(packet.header);
}

PacketPtr with_version(PacketPtr packet, int shift) {
  if (shift == 0 || packet->header.size() != transport::kHeaderBytes) return packet;
  auto changed = std::make_shared<Packet>(*packet);
  const std::span<std::byte, transport::kHeaderBytes> header(changed->header);
  transport::seal_header(header);
  const bool whole = changed->header == packet->header;
  std::uint16_t version = 0;
  std::memcpy(&version, &header[4], sizeof(version));
  version = static_cast<std::uint16_t>(version + shift);
  std::memcpy(&header[4], &version, sizeof(version));
  transport::seal_header(header);
  if (!whole) header[36] ^= std::byte{1};
  return changed;
}

std::int64_t Fabric::delay(const Path& path) {
  return path.delay_us + world_.between(0, path.jitter_us);
}

ConnectionPtr Fabric::connect(Host& client, std::size_t client_id, Host& server,
                              std::size_t server_id, std::size_t link) {
  auto connection = std::make_shared<Connection>();
  connection->id = next_id_++;
  connection->client = &client;
  connection->server = &server;
  connection->client_id = client_id;
  connection->server_id = server_id;
  connection->link = link;
  // Never used again, as random ids are in life.
  connection->peer = "peer" + std::to_string(connection->id);
  std::erase_if(connections_, [](const auto& old) { return old.expired(); });
  connections_.push_back(connection);
  try_connect(connection);
  return connection;
}

void Fabric::try_connect(const ConnectionPtr& connection) {
  const Path& way = path(connection->client_id, connection->server_id);
  world_.after(2 * delay(way), [this, connection] {
    if (connection->client == nullptr) return;
    const Path& now = path(connection->client_id, connection->server_id);
    if (now.blocked[kUp] || now.blocked[kDown] || !connection->server->accepts()) {
      world_.after(kRetryUs, [this, connection] { try_connect(connection); });
      return;
    }
    connection->established = true;
    world_.note("connected", connection->client_id, connection->id, connection->server_id);
    connection->client->on_established(connection);
  });
}

bool Fabric::send(const ConnectionPtr& connection, Direction direction, PacketPtr packet) {
  Host* sender = direction == kUp ? connection->client : connection->server;
  if (!connection->established || sender == nullptr) return false;
  if (connection->pipe[direction].on_the_way >= kHighWater) return false;
  const Path& way = path(connection->client_id, connection->server_id);
  if (direction == kUp) remember(heard_, packet);
  std::deque<PacketPtr>& past = connection->pipe[direction].past;
  remember(past, packet);
  if (world_.chance(way.break_probability)) {
    close_server(connection);
    return true;  // nobody knows yet
  }
  if (world_.chance(way.repeat_probability)) forward(connection, direction, packet);
  if (world_.chance(way.replay_probability)) forward(connection, direction, any_of(past));
  if (world_.chance(way.corrupt_probability)) packet = corrupt(*packet);
  forward(connection, direction, std::move(packet));
  return true;
}

PacketPtr Fabric::corrupt(const Packet& packet) {
  auto changed = std::make_shared<Packet>(packet);
  const auto at = world_.rng().below(static_cast<std::uint32_t>(packet.size()));
  std::byte& byte = at < changed->header.size() ? changed->header[at]
                                                : changed->payload[at - changed->header.size()];
  byte ^= static_cast<std::byte>(1u << world_.rng().below(8));
  return changed;
}

void Fabric::forward(const ConnectionPtr& connection, Direction direction, PacketPtr packet) {
  Connection::Pipe& pipe = connection->pipe[direction];
  ++pipe.on_the_way;
  const Path& way = path(connection->client_id, connection->server_id);
  std::int64_t arrival_us = std::max(pipe.last_arrival_us, world_.now_us() + delay(way));
  if (packet != nullptr && world_.chance(way.reorder_probability)) {
    arrival_us += world_.between(0, 10 * way.delay_us);  // others overtake it
  } else {
    pipe.last_arrival_us = arrival_us;
  }
  world_.after(arrival_us - world_.now_us(),
               [this, connection, direction, packet] { arrive(connection, direction, packet); });
}

void Fabric::arrive(const ConnectionPtr& connection, Direction direction, const PacketPtr& packet) {
  Connection::Pipe& pipe = connection->pipe[direction];
  const Path& way = path(connection->client_id, connection->server_id);
  if (way.blocked[direction] || !pipe.held.empty()) {
    pipe.held.push_back(packet);
  } else {
    hand_over(connection, direction, packet);
  }
}

void Fabric::hand_over(const ConnectionPtr& connection, Direction direction,
                       const PacketPtr& packet) {
  --connection->pipe[direction].on_the_way;
  Host*& host = direction == kUp ? connection->server : connection->client;
  if (host == nullptr) return;
  if (packet != nullptr) return host->on_packet(connection, packet);
  Host* told = std::exchange(host, nullptr);
  told->on_end(connection);
}

void Fabric::close_client(const ConnectionPtr& connection) {
  if (connection->client == nullptr) return;
  connection->client = nullptr;
  if (connection->established) forward(connection, kUp, nullptr);
}

void Fabric::close_server(const ConnectionPtr& connection) {
  if (connection->server == nullptr || !connection->established) return;
  Host* server = std::exchange(connection->server, nullptr);
  server->on_end(connection);
  forward(connection, kDown, nullptr);
}

void Fabric::unblock(std::size_t client_id, std::size_t server_id) {
  path(client_id, server_id).blocked = {};
  for (const auto& known : connections_) {
    const ConnectionPtr connection = known.lock();
    if (!connection || connection->client_id != client_id || connection->server_id != server_id) {
      continue;
    }
    for (const Direction direction : {kUp, kDown}) {
      std::deque<PacketPtr> held;
      held.swap(connection->pipe[direction].held);
      for (const PacketPtr& packet : held) hand_over(connection, direction, packet);
    }
  }
}

void Fabric::forget() {
  heard_.clear();
  for (const auto& known : connections_) {
    const ConnectionPtr connection = known.lock();
    if (!connection) continue;
    for (Connection::Pipe& pipe : connection->pipe) pipe.past.clear();
  }
}

PacketPtr Fabric::overheard() {
  return heard_.empty() ? nullptr : any_of(heard_);
}

PacketPtr Fabric::any_of(const std::deque<PacketPtr>& packets) {
  return packets[world_.rng().below(static_cast<std::uint32_t>(packets.size()))];
}

}  // namespace splitee::simulation
