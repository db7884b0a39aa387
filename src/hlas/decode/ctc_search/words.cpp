#include "words.hpp"

#include <algorithm>
#include <memory>

#include "lm/config.hh"
#include "lm/model.hh"

namespace hlas {
namespace {

constexpr uint32_t kUsualLength = 6;  // code points; pyctcdecode penalises longer unknown beginnings by their length

void append_utf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  const int marks[] = {0, 0xC0, 0xE0, 0xF0};
  out->push_back(static_cast<char>(marks[more] | c >> 6 * more));
  for (int i = more - 1; i >= 0; --i) out->push_back(static_cast<char>(0x80 | (c >> 6 * i & 0x3F)));
}

}  // namespace

CodePoints code_points(const std::string& utf8) {
  CodePoints out;
  for (size_t i = 0; i < utf8.size();) {
    const unsigned char first = static_cast<unsigned char>(utf8[i]);
    const int more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    uint32_t c = more == 0 ? first : first & (0x3F >> more);
    for (int k = 1; k <= more && i + k < utf8.size(); ++k) c = c << 6 | (static_cast<unsigned char>(utf8[i + k]) & 0x3F);
    out.push_back(c);
    i += static_cast<size_t>(more) + 1;
  }
  return out;
}

WordLm::WordLm(const std::string& path, const std::string& words) {
  lm::ngram::Config config;
  config.show_progress = false;
  config.messages = nullptr;
  config.unknown_missing = lm::SILENT;
  config.sentence_marker_missing = lm::SILENT;
  config.arpa_complain = lm::ngram::Config::NONE;
  std::unique_ptr<lm::base::Model> model(lm::ngram::LoadVirtual(path.c_str(), config));
  for (size_t start = 0; start < words.size();) {
    const size_t end = std::min(words.find('\n', start), words.size());
    std::string word = words.substr(start, end - start);
    if (!word.empty() && model->BaseVocabulary().Index(word) != 0) words_.push_back(std::move(word));
    start = end + 1;
  }
  std::sort(words_.begin(), words_.end());
  words_.erase(std::unique(words_.begin(), words_.end()), words_.end());
  words_.shrink_to_fit();
  model_ = model.release();
}

WordLm::~WordLm() { delete model_; }

Parts::Parts(const WordLm* lm, WordRules rules, std::vector<CodePoints> labels)
    : lm_(lm), rules_(std::move(rules)), labels_(std::move(labels)) {
  for (const auto& hotword : rules_.hotwords) {
    double& bonus = bonuses_[hotword.first];
    bonus = std::max(bonus, hotword.second);
    largest_bonus_ = std::max(largest_bonus_, hotword.second);
  }
  for (const auto& hotword : bonuses_) {
    const CodePoints letters = code_points(hotword.first);
    std::string beginning;
    for (size_t n = 1; n <= letters.size(); ++n) {  // a beginning has its share of the bonus
      append_utf8(letters[n - 1], &beginning);
      double& bonus = beginning_bonuses_[beginning];
      bonus = std::max(bonus, hotword.second * static_cast<double>(n) / static_cast<double>(letters.size()));
    }
  }
  clear();
}

void Parts::clear() {
  parts_.clear();
  by_label_.clear();
  by_code_point_.clear();
  Part empty;
  empty.high = lm_ ? static_cast<uint32_t>(lm_->words().size()) : 0;
  parts_.push_back(empty);
}

uint32_t Parts::extend(uint32_t part, uint32_t label) {
  const uint32_t known = by_label_.find(part, label);
  if (known != kNone) return known;
  uint32_t to = part;
  for (uint32_t c : labels_[label]) to = extend_by(to, c);
  by_label_.at(part, label) = to;
  return to;
}

uint32_t Parts::extend_by(uint32_t from, uint32_t code_point) {
  uint32_t& found = by_code_point_.at(from, code_point);
  if (found != kNone) return found;
  found = size();
  std::string letter;
  append_utf8(code_point, &letter);
  Part part;
  part.parent = from;
  part.code_point = code_point;
  part.length = parts_[from].length + 1;
  part.bytes = parts_[from].bytes + static_cast<uint32_t>(letter.size());
  if (lm_ && parts_[from].low < parts_[from].high) {
    // words of [low, high) agree in their first bytes: the next letter's bytes put them into order
    const size_t offset = parts_[from].bytes;
    const auto begin = lm_->words().begin();
    const auto low = std::lower_bound(
        begin + parts_[from].low, begin + parts_[from].high, letter,
        [&](const std::string& word, const std::string& l) { return word.compare(offset, l.size(), l) < 0; });
    const auto high = std::upper_bound(
        low, begin + parts_[from].high, letter,
        [&](const std::string& l, const std::string& word) { return word.compare(offset, l.size(), l) > 0; });
    part.low = static_cast<uint32_t>(low - begin);
    part.high = static_cast<uint32_t>(high - begin);
  }
  const uint32_t made = size();
  parts_.push_back(part);
  parts_.back().score = beginning_score(parts_.back(), beginning_bonuses_.empty() ? std::string() : text(made));
  return made;
}

double Parts::beginning_score(const Part& part, const std::string& text) const {
  if (!beginning_bonuses_.empty()) {
    const auto bonus = beginning_bonuses_.find(text);
    if (bonus != beginning_bonuses_.end()) return bonus->second;
  }
  if (!lm_ || part.low < part.high) return 0;
  const double offset = rules_.unk_score_offset;
  return part.length > kUsualLength ? offset * part.length / kUsualLength : offset;
}

uint32_t Parts::strip(uint32_t part, size_t length) const {
  for (; length > 0; --length) part = parts_[part].parent;
  return part;
}

const Part& Parts::word(uint32_t id) {
  Part& part = parts_[id];
  if (part.looked_up) return part;
  part.looked_up = true;
  const std::string word = text(id);
  if (lm_) {
    part.index = lm_->model().BaseVocabulary().Index(word);
    const bool listed = part.low < part.high && lm_->words()[part.low].size() == part.bytes;
    part.unknown = (!lm_->words().empty() && !listed) || part.index == 0;
  }
  const auto bonus = bonuses_.find(word);
  if (bonus != bonuses_.end()) part.bonus = bonus->second;
  return part;
}

std::string Parts::text(uint32_t part) const {
  CodePoints letters;
  for (; part != kEmpty; part = parts_[part].parent) letters.push_back(parts_[part].code_point);
  std::string out;
  for (auto letter = letters.rbegin(); letter != letters.rend(); ++letter) append_utf8(*letter, &out);
  return out;
}

}  // namespace hlas
