#include "search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hlas {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-6;  // slack of bounds, far above the error of sums and far below any score
constexpr uint32_t kForgetPartsAt = 1 << 18;
constexpr uint32_t kCollectAt = 1 << 14;  // texts and word times; live ones are copied, so that they stay in the cache

// log(e^a + e^b), as pyctcdecode computes it; beyond 37 the smaller one is lost in double precision.
double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  const double difference = b - a;
  return difference < -37 ? a : a + std::log(1 + std::exp(difference));
}

}  // namespace

Search::Search(const WordLm* lm, Parts* parts, std::vector<Kind> kinds, double unk_score_offset, Options options)
    : parts_(parts),
      kinds_(std::move(kinds)),
      options_(options),
      texts_(lm, parts, unk_score_offset),
      columns_(kinds_.size(), kNone) {}

std::vector<Result> Search::run(const Frames& frames, Weights weights, size_t nbest) {
  if (parts_->size() > kForgetPartsAt) parts_->clear();
  texts_.start(weights, options_.prune_history ? std::max(1u, options_.lm_order - 1) : 0);
  times_.clear();
  collect_at_ = kCollectAt;
  beams_.assign(1, Beam{Texts::kEmpty, Parts::kEmpty, kNone, 0, 0, kNone, -1, -1, kNone});
  for (int64_t t = 0; t < frames.size(); ++t) {
    step(frames.begin(t), frames.end(t), static_cast<int32_t>(t));
    if (texts_.size() + times_.size() > collect_at_) collect_garbage();
  }
  return finish(nbest);
}

void Search::step(const Tried* begin, const Tried* end, int32_t frame) {
  candidates_.clear();
  floor_ = best_ = -kInfinity;
  group();
  repeat(begin, end);
  if (candidates_.size() > options_.width) shrink();
  extend(begin, end);
  select(frame);
}

// Beams of one prefix together.
void Search::group() {
  prefixes_.clear();
  prefix_ids_.clear();
  for (uint32_t b = 0; b < beams_.size(); ++b) {
    Beam& beam = beams_[b];
    beam.next = kNone;
    uint32_t& id = prefix_ids_.at(beam.text, beam.part);
    if (id == kNone) {
      id = static_cast<uint32_t>(prefixes_.size());
      prefixes_.push_back({beam.text, beam.part, b, kNone, beam.logit});
      continue;
    }
    Prefix& prefix = prefixes_[id];
    prefix.total = log_add(prefix.total, beam.logit);
    uint32_t last = prefix.first;
    while (beams_[last].next != kNone) last = beams_[last].next;
    beams_[last].next = b;
  }
  // (words, beginning) and (words + beginning, nothing) are one prefix once a word starts
  for (uint32_t p = 0; p < prefixes_.size(); ++p) {
    if (prefixes_[p].part != Parts::kEmpty || prefixes_[p].text == Texts::kEmpty) continue;
    const Text& text = texts_[prefixes_[p].text];
    const uint32_t partner = prefix_ids_.find(text.parent, text.word);
    if (partner == kNone) continue;
    prefixes_[p].partner = partner;
    prefixes_[partner].partner = p;
  }
}

// What a prefix's beams that do not end in the label add up to, on top of `sum`.
Search::Sum Search::sum_without(uint32_t prefix, uint32_t label, Sum sum) const {
  for (uint32_t b = prefixes_[prefix].first; b != kNone; b = beams_[b].next) {
    if (beams_[b].label == label) continue;
    sum.logit = sum.first == kNone ? beams_[b].logit : log_add(sum.logit, beams_[b].logit);
    sum.first = std::min(sum.first, b);
  }
  return sum;
}

// The prefixes from which the beam's last label leads to the beam's own prefix.
void Search::sources(const Beam& beam, uint32_t found[2]) const {
  found[0] = found[1] = kNone;
  const size_t length = parts_->label_length(beam.label);
  if (kinds_[beam.label] == Kind::continues) {
    found[0] = prefix_ids_.find(beam.text, parts_->strip(beam.part, length));
    return;
  }
  found[0] = prefix_ids_.find(beam.text, Parts::kEmpty);
  if (beam.text == Texts::kEmpty) return;
  const Text& text = texts_[beam.text];
  found[1] = prefix_ids_.find(text.parent, text.word);
}

// Beams whose prefix stays: a blank, or the last label once more, to which other prefixes' first one is added.
void Search::repeat(const Tried* begin, const Tried* end) {
  const size_t columns = static_cast<size_t>(end - begin);
  for (size_t k = 0; k < columns; ++k) columns_[begin[k].label] = static_cast<uint32_t>(k);
  done_.assign(prefixes_.size() * columns, 0);
  const uint32_t blank = static_cast<uint32_t>(kinds_.size()) - 1;
  if (columns_[blank] != kNone) {
    const uint32_t k = columns_[blank];
    for (uint32_t p = 0; p < prefixes_.size(); ++p) {
      const Prefix& prefix = prefixes_[p];
      const Beam& beam = beams_[prefix.first];
      const double logit = prefix.total + begin[k].logp;
      add({logit + beam.extra, logit, beam.extra, uint64_t{blank} << 32 | prefix.first, beam.text, beam.part, blank,
           prefix.first});
      done_[p * columns + k] = 1;
    }
  }
  for (uint32_t b = 0; b < beams_.size(); ++b) {
    const Beam& beam = beams_[b];
    if (beam.label == kNone || beam.label == blank || columns_[beam.label] == kNone) continue;
    const uint32_t k = columns_[beam.label];
    uint32_t found[2];
    sources(beam, found);
    Sum sum{beam.logit, b};
    for (const uint32_t p : found) {
      if (p == kNone) continue;
      sum = sum_without(p, beam.label, sum);
      done_[p * columns + k] = 1;
    }
    const double logit = sum.logit + begin[k].logp;
    add({logit + beam.extra, logit, beam.extra, uint64_t{beam.label} << 32 | sum.first, beam.text, beam.part,
         beam.label, sum.first});
  }
  for (size_t k = 0; k < columns; ++k) columns_[begin[k].label] = kNone;
}

// New prefixes, the likeliest label first, until none can be among the best.
void Search::extend(const Tried* begin, const Tried* end) {
  by_logp_.resize(static_cast<size_t>(end - begin));
  for (uint32_t k = 0; k < by_logp_.size(); ++k) by_logp_[k] = k;
  std::sort(by_logp_.begin(), by_logp_.end(), [=](uint32_t a, uint32_t b) { return begin[a].logp > begin[b].logp; });
  const uint32_t blank = static_cast<uint32_t>(kinds_.size()) - 1;
  for (const uint32_t k : by_logp_) {
    if (begin[k].label == blank) continue;
    for (uint32_t p = 0; p < prefixes_.size(); ++p)
      if (!done_[p * by_logp_.size() + k]) extend_prefix(p, k, begin[k]);
  }
}

void Search::extend_prefix(uint32_t p, size_t column, const Tried& tried) {
  const Prefix& prefix = prefixes_[p];
  const bool starts = kinds_[tried.label] != Kind::continues;
  double bound = prefix.total + tried.logp + texts_[prefix.text].score() + parts_->largest_bonus() + kRounding;
  if (starts && prefix.partner != kNone)
    bound = kInfinity;
  else if (starts && prefix.part != Parts::kEmpty)
    bound += texts_.largest_gain();
  if (bound < floor_) return;
  Sum sum = sum_without(p, tried.label, {0, kNone});
  if (starts && prefix.partner != kNone) {
    sum = sum_without(prefix.partner, tried.label, sum);
    done_[prefix.partner * by_logp_.size() + column] = 1;
  }
  if (sum.first == kNone) return;
  Candidate made;
  made.logit = sum.logit + tried.logp;
  made.text = starts ? texts_.append(prefix.text, prefix.part) : prefix.text;
  made.part = parts_->extend(starts ? Parts::kEmpty : prefix.part, tried.label);
  made.extra = texts_[made.text].score() + (*parts_)[made.part].score;
  made.score = made.logit + made.extra;
  made.order = uint64_t{tried.label} << 32 | sum.first;
  made.label = tried.label;
  made.from = sum.first;
  add(made);
}

void Search::add(const Candidate& candidate) {
  if (candidate.score < floor_) return;
  candidates_.push_back(candidate);
  if (candidate.score > best_) {
    best_ = candidate.score;
    floor_ = std::max(floor_, best_ + options_.beam_prune_logp);
  }
  if (candidates_.size() >= 2 * static_cast<size_t>(options_.width) + 64) shrink();
}

// Only the best `width` can be kept: the worst of them is the new floor.
void Search::shrink() {
  const auto last = candidates_.begin() + options_.width - 1;
  std::nth_element(candidates_.begin(), last, candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.order < b.order;
  });
  floor_ = std::max(floor_, last->score);
  candidates_.resize(options_.width);
}

void Search::select(int32_t frame) {
  const double limit = best_ + options_.beam_prune_logp;
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                   [=](const Candidate& c) { return c.score < limit; }),
                    candidates_.end());
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.order < b.order;
  });
  if (candidates_.size() > options_.width) candidates_.resize(options_.width);
  if (options_.prune_history) forget_dropped_history();
  next_beams_.clear();
  for (const Candidate& candidate : candidates_) next_beams_.push_back(next_beam(candidate, frame));
  beams_.swap(next_beams_);
}

// Of candidates that differ only before the LM's memory, the best one stays.
void Search::forget_dropped_history() {
  // (last words, beginning) numbered, then (that number, label)
  prefix_ids_.clear();
  seen_histories_.clear();
  uint32_t next = 0;
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                   [&](const Candidate& c) {
                                     uint32_t& prefix = prefix_ids_.at(texts_[c.text].last_words, c.part);
                                     if (prefix == kNone) prefix = next++;
                                     uint32_t& seen = seen_histories_.at(prefix, c.label);
                                     const bool known = seen != kNone;
                                     seen = 0;
                                     return known;
                                   }),
                    candidates_.end());
}

Search::Beam Search::next_beam(const Candidate& c, int32_t frame) {
  const Beam& from = beams_[c.from];
  Beam beam{c.text, c.part, c.label, c.logit, c.extra, from.times, from.start, from.end, kNone};
  const Kind kind = kinds_[c.label];
  if (kind == Kind::blank) return beam;
  if (from.label == c.label) {
    beam.end = frame + 1;
    return beam;
  }
  if (kind != Kind::continues) {
    if (from.part != Parts::kEmpty) {
      beam.times = static_cast<uint32_t>(times_.size());
      times_.push_back({from.times, from.start, from.end});
    }
    beam.start = kind == Kind::space ? -1 : frame;
    beam.end = kind == Kind::space ? -1 : frame + 1;
    return beam;
  }
  if (from.start < 0) beam.start = frame;
  beam.end = frame + 1;
  return beam;
}

// The last word is complete, the sentence ends: texts are merged and scored once more.
std::vector<Result> Search::finish(size_t nbest) {
  prefix_ids_.clear();
  candidates_.clear();
  for (uint32_t b = 0; b < beams_.size(); ++b) {
    const Beam& beam = beams_[b];
    const uint32_t text = texts_.append(beam.text, beam.part);
    uint32_t& id = prefix_ids_.at(text, Parts::kEmpty);
    if (id != kNone) {
      candidates_[id].logit = log_add(candidates_[id].logit, beam.logit);
      continue;
    }
    id = static_cast<uint32_t>(candidates_.size());
    candidates_.push_back({0, beam.logit, texts_[text].score() + texts_.end_score(text), b, text, 0, 0, b});
  }
  best_ = -kInfinity;
  for (Candidate& c : candidates_) best_ = std::max(best_, c.score = c.logit + c.extra);
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.order < b.order;
  });
  std::vector<Result> out;
  for (const Candidate& c : candidates_) {
    if (out.size() == nbest || out.size() == options_.width || c.score < best_ + options_.beam_prune_logp) break;
    const Beam& beam = beams_[c.from];
    uint32_t times = beam.times;
    if (beam.part != Parts::kEmpty) {
      times = static_cast<uint32_t>(times_.size());
      times_.push_back({beam.times, beam.start, beam.end});
    }
    out.push_back(result(c.text, times, c.logit, c.score));
  }
  return out;
}

Result Search::result(uint32_t text, uint32_t times, double logit, double score) const {
  Result out{"", logit, score, {}};
  for (const uint32_t word : texts_.words(text)) {
    if (!out.text.empty()) out.text += ' ';
    out.text += parts_->text(word);
  }
  for (; times != kNone; times = times_[times].before) {
    out.times.push_back(times_[times].end);
    out.times.push_back(times_[times].start);
  }
  std::reverse(out.times.begin(), out.times.end());
  return out;
}

// Texts and times that no beam leads back to: only a long recording has enough of them to matter.
void Search::collect_garbage() {
  std::vector<uint32_t*> texts;
  for (Beam& beam : beams_) texts.push_back(&beam.text);
  texts_.keep(texts);
  std::vector<uint32_t> number(times_.size(), kNone);
  for (const Beam& beam : beams_)
    for (uint32_t t = beam.times; t != kNone && number[t] == kNone; t = times_[t].before) number[t] = 0;
  uint32_t next = 0;
  for (uint32_t t = 0; t < times_.size(); ++t) {  // an earlier word comes before a later one
    if (number[t] == kNone) continue;
    number[t] = next;
    Times moved = times_[t];
    if (moved.before != kNone) moved.before = number[moved.before];
    times_[next++] = moved;
  }
  times_.resize(next);
  for (Beam& beam : beams_)
    if (beam.times != kNone) beam.times = number[beam.times];
  collect_at_ = 2 * (texts_.size() + next) + kCollectAt;
}

}  // namespace hlas
