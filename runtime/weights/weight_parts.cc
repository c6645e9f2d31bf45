#include "runtime/weights/weight_parts.h"

#include <algorithm>
#include <new>
#include <string>

namespace splitee::runtime {

WeightParts::WeightParts(std::shared_ptr<const ModelBytes> bytes, const kernels::Kernels& kernels,
                         std::vector<PartPlan> plans, std::vector<std::size_t> exit_layers)
    : bytes_(std::move(bytes)),
      kernels_(kernels),
      parts_(plans.size()),
      exit_layers_(std::move(exit_layers)) {
  for (std::size_t i = 0; i < plans.size(); ++i) parts_[i].plan = std::move(plans[i]);
}

std::vector<WeightParts::Part*> WeightParts::placed() {
  std::vector<Part*> order;
  std::size_t exit = 0;
  for (std::size_t layer = 1; layer <= layers(); ++layer) {
    order.push_back(&parts_[layer - 1]);
    while (exit < exit_layers_.size() && exit_layers_[exit] == layer) {
      order.push_back(&parts_[layers() + exit++]);
    }
  }
  SPLITEE_CHECK(order.size() == parts_.size());
  return order;
}

Result<std::unique_ptr<WeightParts>> WeightParts::create(
    std::shared_ptr<const ModelBytes> bytes, const Gguf& file, const kernels::Kernels& kernels,
    std::vector<PartPlan> plans, std::vector<std::size_t> exit_layers, bool exact) {
  std::unique_ptr<WeightParts> made(
      new WeightParts(std::move(bytes), kernels, std::move(plans), std::move(exit_layers)));
  CheckedSize total = 0;
  for (Part* part : made->placed()) {
    choose_kernels(part->plan, kernels, exact);
    if (total.ok()) part->packed_offset = total.value();
    total = total + packed_bytes(part->plan);
  }
  if (!total.ok()) return file.error(Code::kUnsupported, "too large for this machine");
  Result<PageMemory> packed = PageMemory::allocate(total.value(), PageMemory::Use::kDense);
  if (!packed.ok()) return file.error(packed.status().code(), packed.status().message());
  made->packed_ = std::move(*packed);
  return made;
}

Status WeightParts::load_layers(std::size_t from, std::size_t to, bool exit_wanted) const {
  SPLITEE_CHECK(from <= to && to <= layers());
  std::vector<const Part*> missing;
  const auto need = [&](std::size_t part) {
    if (!there(part)) missing.push_back(&parts_[part]);
  };
  for (std::size_t layer = from; layer < to; ++layer) need(layer);
  const auto exit = std::ranges::find(exit_layers_, to);
  if (exit_wanted && exit != exit_layers_.end()) {
    need(layers() + static_cast<std::size_t>(exit - exit_layers_.begin()));
  }
  return missing.empty() ? Status() : load(std::move(missing));
}

Status WeightParts::load(std::vector<const Part*> missing) const {
  const std::lock_guard lock(mutex_);
  try {
    std::erase_if(missing,
                  [](const Part* part) { return part->there.load(std::memory_order_relaxed); });
    CheckedSize size = 0;
    for (const Part* part : missing) size = size + packed_bytes(part->plan);
    if (missing.empty()) return {};
    WeightLoader loader(*bytes_, kernels_, size.value());
    for (const Part* part : missing) {
      std::byte* packed = packed_.data() + part->packed_offset;
      if (Status s = loader.load(part->plan, packed); !s.ok()) return s;
      part->there.store(true, std::memory_order_release);
    }
  } catch (const std::bad_alloc&) {
    return {Code::kIo, bytes_->name() + ": not enough memory to load it"};
  }
  return {};
}

Status WeightParts::load_all() const {
  std::vector<const Part*> all;
  for (const Part& part : parts_) all.push_back(&part);
  return load(std::move(all));
}

}  // namespace splitee::runtime
