#include "transport/zmq/channel.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace splitee::transport {
namespace {

constexpr std::int64_t kMicrosecondsInSecond = 1'000'000;
constexpr std::int64_t kLongestWaitUs = 60 * kMicrosecondsInSecond;

}  // namespace

Channel::Channel(zmq::socket_t socket)
    : socket_(std::move(socket)), fd_(socket_.get(zmq::sockopt::fd)) {}

bool Channel::receive(Received& received) {
  pending_ = transport::receive(socket_, received);
  return pending_;
}

bool Channel::send(std::span<const std::byte> routing_id, Frames frames) {
  pending_ = true;
  return transport::send(socket_, routing_id, std::move(frames));
}

void wait(std::span<Channel* const> channels, std::span<pollfd> others, std::int64_t timeout_us) {
  std::vector<pollfd> items;
  items.reserve(others.size() + channels.size());
  items.assign(others.begin(), others.end());
  for (const Channel* channel : channels) {
    items.push_back({channel->fd_, POLLIN, 0});
    if (channel->pending_) timeout_us = 0;
  }
  const std::int64_t wait_us = std::clamp<std::int64_t>(timeout_us, 0, kLongestWaitUs);
  const timespec timeout{wait_us / kMicrosecondsInSecond,
                         static_cast<long>(wait_us % kMicrosecondsInSecond * 1'000)};
  const bool any =
      ppoll(items.data(), items.size(), timeout_us < 0 ? nullptr : &timeout, nullptr) > 0;
  for (std::size_t i = 0; i < others.size(); ++i) others[i].revents = any ? items[i].revents : 0;
  if (!any) return;
  for (std::size_t i = 0; i < channels.size(); ++i) {
    if (items[others.size() + i].revents != 0) channels[i]->pending_ = true;
  }
}

}  // namespace splitee::transport
