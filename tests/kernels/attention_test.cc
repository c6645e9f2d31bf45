#include "tests/kernels/support.h"

namespace splitee::kernels::testing {
namespace {

struct Shape {
  std::size_t q_rows;
  std::size_t kv_rows;
  std::size_t heads;
  std::size_t head_size;
};

// softmax(q k^T / sqrt(head_size)) v of one head and row, in double.
std::vector<double> expected_row(const Matrix& q, const Matrix& k, const Matrix& v, std::size_t row,
                                 std::size_t head, std::size_t head_size) {
  std::vector<double> scores(k.rows());
  double largest = -std::numeric_limits<double>::infinity();
  for (std::size_t j = 0; j < k.rows(); ++j) {
    for (std::size_t d = head * head_size; d < (head + 1) * head_size; ++d) {
      scores[j] += static_cast<double>(q.at(row, d)) * static_cast<double>(k.at(j, d));
    }
    scores[j] /= std::sqrt(static_cast<double>(head_size));
    largest = std::max(largest, scores[j]);
  }
  double sum = 0.0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  std::vector<double> result(head_size);
  for (std::size_t j = 0; j < k.rows(); ++j) {
    for (std::size_t d = 0; d < head_size; ++d) {
      result[d] += scores[j] / sum * static_cast<double>(v.at(j, head * head_size + d));
    }
  }
  return result;
}

struct Inputs {
  Matrix q;
  Matrix k;
  Matrix v;
};

Inputs make_inputs(const Shape& shape, Random& random, float size) {
  const std::size_t cols = shape.heads * shape.head_size;
  const auto make = [&](std::size_t rows) {
    return Matrix(rows, cols, cols + random.below(5), random.below(kMaxLanes))
        .fill(random, -size, size);
  };
  Matrix q = make(shape.q_rows);
  Matrix k = make(shape.kv_rows);
  return {std::move(q), std::move(k), make(shape.kv_rows)};
}

void run(const Kernels& kernels, const Inputs& in, const Shape& shape, std::size_t begin,
         std::size_t end, Matrix& out) {
  const std::size_t size = kernels.attention_scratch(shape.q_rows, shape.kv_rows, shape.head_size);
  Matrix scratch(1, size, size, 3);
  for (std::size_t i = 0; i < size; ++i) scratch.at(0, i) = kNan;
  kernels.attention(in.q.data(), in.q.stride(), in.k.data(), in.k.stride(), in.v.data(),
                    in.v.stride(), out.data(), out.stride(), shape.q_rows, shape.kv_rows,
                    shape.head_size, begin, end, scratch.data());
  CHECK(scratch.guards_intact());
  CHECK(out.guards_intact());
}

// Scores are sums of head_size products of up to size^2, so an exponent is off by as much.
double tolerance(const Shape& shape, float size) {
  const double depth = static_cast<double>(shape.head_size + shape.kv_rows);
  return (100.0 + depth) * kEpsilon * static_cast<double>(size * (1.0f + size * size));
}

void check_outputs(const Inputs& in, const Shape& shape, const Matrix& out, double allowed) {
  std::size_t wrong = 0;
  for (std::size_t row = 0; row < shape.q_rows; ++row) {
    for (std::size_t head = 0; head < shape.heads; ++head) {
      const auto expected = expected_row(in.q, in.k, in.v, row, head, shape.head_size);
      for (std::size_t d = 0; d < shape.head_size; ++d) {
        const float actual = out.at(row, head * shape.head_size + d);
        if (!close(static_cast<double>(actual), expected[d], allowed)) ++wrong;
      }
    }
  }
  CHECK(wrong == 0);
}

void check_shape(const Kernels& kernels, const Shape& shape, std::uint32_t seed,
                 float size = 1.0f) {
  CAPTURE(shape.q_rows);
  CAPTURE(shape.kv_rows);
  CAPTURE(shape.heads);
  CAPTURE(shape.head_size);
  CAPTURE(seed);
  Random random(seed);
  const Inputs in = make_inputs(shape, random, size);
  const std::size_t cols = shape.heads * shape.head_size;
  Matrix out(shape.q_rows, cols, cols + random.below(5), random.below(kMaxLanes));
  run(kernels, in, shape, 0, shape.heads, out);
  check_outputs(in, shape, out, tolerance(shape, size));
}

TEST_CASE("attention: every head size around the vectors") {
  for_each_target([](const Kernels& kernels) {
    for (std::size_t size = 1; size <= 2 * kMaxLanes + 3; ++size) {
      check_shape(kernels, {5, 9, 2, size}, static_cast<std::uint32_t>(size));
    }
    for (const std::size_t size : {48u, 64u, 65u, 96u, 128u}) {
      check_shape(kernels, {17, 20, 2, size}, static_cast<std::uint32_t>(size));
    }
  });
}

TEST_CASE("attention: every number of rows around the tiles, one query too") {
  for_each_target([](const Kernels& kernels) {
    for (std::size_t rows = 1; rows <= 2 * kMaxLanes + 3; ++rows) {
      const auto seed = static_cast<std::uint32_t>(rows);
      check_shape(kernels, {rows, rows, 1, 32}, seed);
      check_shape(kernels, {1, rows, 2, 32}, seed);
      check_shape(kernels, {rows, 1, 2, 12}, seed);
    }
  });
}

TEST_CASE("attention: real shapes") {
  for_each_target([](const Kernels& kernels) {
    check_shape(kernels, {128, 128, 2, 64}, 1);
    check_shape(kernels, {128, 128, 2, 32}, 2);
    check_shape(kernels, {1, 512, 2, 64}, 3);
    check_shape(kernels, {33, 512, 1, 64}, 4);
  });
}

TEST_CASE("attention: far apart scores") {
  for_each_target([](const Kernels& kernels) { check_shape(kernels, {9, 40, 2, 32}, 5, 8.0f); });
}

TEST_CASE("attention: a range of heads writes its own columns only, with the same bits") {
  for_each_target([](const Kernels& kernels) {
    Random random(6);
    const Shape shape = {15, 22, 4, 20};
    const Inputs in = make_inputs(shape, random, 1.0f);
    Matrix whole(15, 80, 80);
    run(kernels, in, shape, 0, 4, whole);
    Matrix parts(15, 80, 80);
    run(kernels, in, shape, 1, 3, parts);
    for (std::size_t c = 0; c < 80; ++c) {
      CHECK((parts.at(7, c) != 0.0f) == (c >= 20 && c < 60));
    }
    run(kernels, in, shape, 3, 4, parts);
    run(kernels, in, shape, 0, 1, parts);
    CHECK(parts.same_bits(whole));
  });
}

TEST_CASE("attention: NaN reaches the row of q, and the head of k or v, that it is in") {
  for_each_target([](const Kernels& kernels) {
    Random random(7);
    const Shape shape = {16, 21, 3, 20};
    Inputs in = make_inputs(shape, random, 1.0f);
    in.q.at(3, 5) = kNan;
    in.k.at(11, 25) = kNan;
    in.v.at(20, 59) = kNan;
    Matrix out(16, 60, 60);
    run(kernels, in, shape, 0, 3, out);
    check_outputs(in, shape, out, tolerance(shape, 1.0f));
  });
}

}  // namespace
}  // namespace splitee::kernels::testing
