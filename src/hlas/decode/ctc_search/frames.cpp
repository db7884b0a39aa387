#include "frames.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

namespace hlas {
namespace {

const double kMinLogp = std::log(1e-15);  // pyctcdecode clips here, so that no path is impossible

// Every half-precision number and its exponential: log-probs repeat the same few thousand of the 65536.
struct HalfTable {
  float value[65536];
  double exponential[65536];

  HalfTable() {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const int exponent = static_cast<int>(bits >> 10 & 31);
      const int fraction = static_cast<int>(bits & 1023);
      double v;
      if (exponent == 31)
        v = fraction ? NAN : INFINITY;
      else if (exponent == 0)
        v = std::ldexp(fraction, -24);
      else
        v = std::ldexp(1024 + fraction, exponent - 25);
      if (bits & 0x8000) v = -v;
      value[bits] = static_cast<float>(v);
      exponential[bits] = std::exp(v);
    }
  }
};

const HalfTable& half_table() {
  static const std::unique_ptr<HalfTable> table(new HalfTable);
  return *table;
}

}  // namespace

// One frame with numpy's own order of operations: subtract the largest, then the log of the sum of exponentials.
template <class Read>
void Frames::slow_frame(int64_t frame, uint32_t columns, double token_min_logp, Read read) {
  double largest = -INFINITY;
  uint32_t best = 0;
  bool bad = false;
  for (uint32_t c = 0; c < columns; ++c) {
    const double x = read(frame, c);
    bad |= std::isnan(x);
    if (x > largest) largest = x, best = c;
  }
  if (bad || !std::isfinite(largest)) throw BadFrame{frame};
  double sum = 0;
  for (uint32_t c = 0; c < columns; ++c) sum += std::exp(read(frame, c) - largest);
  const double log_sum = std::log(sum);
  for (uint32_t c = 0; c < columns; ++c) {
    const double logp = std::min(0.0, std::max(kMinLogp, read(frame, c) - largest - log_sum));
    if (logp >= token_min_logp || c == best) tried_.push_back({c, logp});
  }
}

template <class Read>
void Frames::load_as(int64_t frames, uint32_t columns, double token_min_logp, Read read) {
  for (int64_t t = 0; t < frames; ++t) {
    slow_frame(t, columns, token_min_logp, read);
    first_.push_back(tried_.size());
  }
}

// The usual case, one pass a frame: values that are log-probs already, so that no exponential is too large to sum.
void Frames::load_half(const uint16_t* data, int64_t frames, uint32_t columns, double token_min_logp) {
  const HalfTable& table = half_table();
  constexpr double kSlack = 0.5;  // labels so much below the limit may pass once the sum of the frame is known
  const float limit = static_cast<float>(token_min_logp - kSlack);
  for (int64_t t = 0; t < frames; ++t) {
    const uint16_t* row = data + t * columns;
    const size_t start = tried_.size();
    double sum = 0;
    for (uint32_t c = 0; c < columns; ++c) {
      sum += table.exponential[row[c]];
      if (table.value[row[c]] >= limit) tried_.push_back({c, table.value[row[c]]});
    }
    const double log_sum = std::log(sum);
    if (!(std::fabs(log_sum) < kSlack) || tried_.size() == start) {
      tried_.resize(start);
      slow_frame(t, columns, token_min_logp, [&](int64_t, uint32_t c) { return double{table.value[row[c]]}; });
    } else {
      const auto best = std::max_element(tried_.begin() + start, tried_.end(),
                                         [](const Tried& a, const Tried& b) { return a.logp < b.logp; })->label;
      size_t kept = start;
      for (size_t i = start; i < tried_.size(); ++i) {
        Tried one = tried_[i];
        one.logp = std::min(0.0, std::max(kMinLogp, one.logp - log_sum));
        if (one.logp >= token_min_logp || one.label == best) tried_[kept++] = one;
      }
      tried_.resize(kept);
    }
    first_.push_back(tried_.size());
  }
}

void Frames::load(const void* data, int64_t frames, uint32_t columns, Float type, double token_min_logp) {
  tried_.clear();
  first_.assign(1, 0);
  switch (type) {
    case Float::f16:
      return load_half(static_cast<const uint16_t*>(data), frames, columns, token_min_logp);
    case Float::f32: {
      const float* values = static_cast<const float*>(data);
      return load_as(frames, columns, token_min_logp,
                     [=](int64_t t, uint32_t c) { return double{values[t * columns + c]}; });
    }
    case Float::f64: {
      const double* values = static_cast<const double*>(data);
      return load_as(frames, columns, token_min_logp, [=](int64_t t, uint32_t c) { return values[t * columns + c]; });
    }
  }
}

}  // namespace hlas
