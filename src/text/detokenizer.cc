#include "text/detokenizer.h"

#include <algorithm>
#include <utility>

#include "text/tokenizer_parts.h"

namespace trireme {

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer,
                         std::span<const int32_t> prompt_ids, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)),
      skip_special_tokens_(skip_special_tokens),
      stream_(&tokenizer_->parts_->decoder) {
  const auto token = [&](size_t i) {
    return tokenizer_->TokenForDecoding(prompt_ids[i], skip_special_tokens_);
  };
  // Of a long prompt the begin and the end are enough.
  size_t next = 0, tail = prompt_ids.size();
  std::string prompt;
  const auto push = [&] {
    const std::string* pushed = token(next++);
    if (pushed != nullptr) stream_.Push(*pushed, &prompt);
  };
  while (next < tail && !stream_.CanForget()) push();
  bool can_resume = false;
  for (size_t n_bytes = 0; tail > next && !can_resume;) {
    const std::string* before = token(--tail);
    if (before == nullptr) continue;
    n_bytes += before->size();
    can_resume = n_bytes >= text::DecodeStream::kRemembered && stream_.CanResume(*before);
  }
  if (can_resume) {
    stream_.Forget();
    next = tail;
  }
  while (next < prompt_ids.size()) push();
  text::DecodeStream ended = stream_;
  ended.Finish(&prompt_tail_);
}

std::string Detokenizer::Push(int32_t id) {
  std::string text;
  const std::string* token = tokenizer_->TokenForDecoding(id, skip_special_tokens_);
  if (token != nullptr) stream_.Push(*token, &text);
  return WithoutPrompt(std::move(text));
}

std::string Detokenizer::Finish() {
  std::string text;
  stream_.Finish(&text);
  return WithoutPrompt(std::move(text));
}

std::string Detokenizer::WithoutPrompt(std::string text) {
  if (prompt_seen_ == prompt_tail_.size() || text.empty()) return text;
  const std::string_view expected = std::string_view(prompt_tail_).substr(prompt_seen_);
  auto same = static_cast<size_t>(
      std::mismatch(text.begin(), text.end(), expected.begin(), expected.end()).first -
      text.begin());
  if (same < text.size() || same == expected.size()) {
    prompt_seen_ = prompt_tail_.size();  // from here on the texts differ
    while (same < text.size() && same > 0 && (text[same] & 0xC0) == 0x80) --same;
  } else {
    prompt_seen_ += same;
  }
  return text.substr(same);
}

}  // namespace trireme
