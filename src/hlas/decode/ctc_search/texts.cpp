#include "texts.hpp"

#include <algorithm>

namespace hlas {

void Texts::start(Weights weights, unsigned history) {
  weights_ = weights;
  history_ = history;
  texts_.clear();
  children_.clear();
  histories_.clear();
  next_history_ = 1;
  Text empty;
  if (lm_) lm_->model().BeginSentenceWrite(&empty.state);
  texts_.push_back(empty);
}

uint32_t Texts::append(uint32_t text, uint32_t word) {
  if (word == Parts::kEmpty) return text;
  uint32_t& found = children_.at(text, word);
  if (found != kNone) return found;
  found = size();
  const uint32_t made = found;
  const Part& part = parts_->word(word);
  Text next;
  next.parent = text;
  next.word = word;
  next.bonus = texts_[text].bonus + part.bonus;
  if (lm_) {
    // in double precision and in pyctcdecode's order, so that its scores come out
    double log10_p = lm_->model().BaseScore(&texts_[text].state, part.index, &next.state);
    if (part.unknown) log10_p += unk_score_offset_;
    next.lm_score = texts_[text].lm_score + (weights_.alpha * log10_p * kLn10 + weights_.beta);
  }
  texts_.push_back(next);
  if (history_) texts_[made].last_words = number_of_last_words(text, word);
  return made;
}

// Chains of (number of the earlier words, next word) are numbered; only the last `history_` words take part.
uint32_t Texts::number_of_last_words(uint32_t text, uint32_t word) {
  std::vector<uint32_t> last{word};
  for (; last.size() < history_ && text != kEmpty; text = texts_[text].parent) last.push_back(texts_[text].word);
  uint32_t number = 0;
  for (auto w = last.rbegin(); w != last.rend(); ++w) {
    uint32_t& next = histories_.at(number, *w);
    if (next == kNone) next = next_history_++;
    number = next;
  }
  return number;
}

double Texts::end_score(uint32_t text) const {
  if (!lm_) return 0;
  lm::ngram::State end;
  const double log10_p =
      lm_->model().BaseScore(&texts_[text].state, lm_->model().BaseVocabulary().EndSentence(), &end);
  return weights_.alpha * log10_p * kLn10;
}

std::vector<uint32_t> Texts::words(uint32_t text) const {
  std::vector<uint32_t> out;
  for (; text != kEmpty; text = texts_[text].parent) out.push_back(texts_[text].word);
  std::reverse(out.begin(), out.end());
  return out;
}

void Texts::keep(std::vector<uint32_t*> kept) {
  std::vector<uint32_t> number(texts_.size(), kNone);
  number[kEmpty] = kEmpty;
  for (const uint32_t* text : kept)
    for (uint32_t t = *text; number[t] == kNone; t = texts_[t].parent) number[t] = 0;
  children_.clear();
  uint32_t next = 1;
  for (uint32_t t = 1; t < texts_.size(); ++t) {  // a parent comes before its children
    if (number[t] == kNone) continue;
    number[t] = next;
    Text moved = texts_[t];
    moved.parent = number[moved.parent];
    children_.at(moved.parent, moved.word) = next;
    texts_[next++] = moved;
  }
  texts_.resize(next);
  for (uint32_t* text : kept) *text = number[*text];
}

}  // namespace hlas
