"""A tolerant reader of C++ as this project writes it: the brace blocks of a file and what heads them."""

import collections
import re

import lint

# kind: 'scope' (namespace, extern "C"), 'class', 'enum', 'function', 'other' (initialisers, bodies in
# bodies). begin: offset of the head; open, close: offsets of the braces; parent: index or -1.
Block = collections.namedtuple('Block', 'kind head begin open close parent')

_ANNOTATION = re.compile(r'\b(?:CMWQ_\w+|alignas|__attribute__|decltype|noexcept)\b[ ]*(?=\()')
_ACCESS = re.compile(r'\b(?:public|private|protected)\s*:$')


def drop_calls(text):
    """Removes annotation macros with their parentheses."""
    while True:
        match = _ANNOTATION.search(text)
        if match is None:
            return text
        depth, i = 0, match.end()
        while i < len(text):
            depth += {'(': 1, ')': -1}.get(text[i], 0)
            i += 1
            if depth == 0:
                break
        text = text[:match.start()] + ' ' * (i - match.start()) + text[i:]


def without_detail(text):
    """A public header with the namespaces detail blanked. Text with comments and literals."""
    return re.sub(r'namespace [\w:]*detail \{.*?\n\}  // namespace [\w:]*detail\n',
                  lambda m: lint._blank(m.group(0)), text, flags=re.S)


def _classify(head, in_body):
    head = drop_calls(head).strip()
    if re.search(r'\bnamespace\b[\w\s:]*$', head) or re.search(r'\bextern\s*"\s*"$', head):
        return 'scope'
    if re.search(r'\benum\b[^()]*$', head):
        return 'enum'
    if re.search(r'\b(class|struct|union)\b[^()=]*$', head):
        return 'class'
    if not in_body and '(' in head and not re.search(r'(?<![=!<>])=\s*$', head):
        return 'function'
    return 'other'


def blocks(text):
    """All blocks of `text`, outer ones first; text must have gone through lint.hide()."""
    text = re.sub(r'^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', lambda m: lint._blank(m.group(0)), text,
                  flags=re.MULTILINE)
    found, stack = [], []
    head_start, depth = 0, 0
    for i, c in enumerate(text):
        if c in '([':
            depth += 1
        elif c in ')]':
            depth -= 1
        elif c == '{':
            parent = stack[-1] if stack else -1
            in_body = any(found[s].kind in ('function', 'other', 'enum') for s in stack)
            head = text[head_start:i]
            kind = _classify(head, in_body or depth > 0)
            begin = head_start + len(head) - len(head.lstrip())
            found.append(Block(kind, head.strip(), begin, i, len(text), parent))
            stack.append(len(found) - 1)
            if kind != 'other':
                head_start = i + 1
        elif c == '}' and stack:
            index = stack.pop()
            found[index] = found[index]._replace(close=i)
            if found[index].kind != 'other':
                head_start = i + 1
        elif (c == ';' and depth == 0) or (
                c == ':' and text[i + 1:i + 2] != ':' and _ACCESS.search(text, i - 12, i + 1)):
            head_start = i + 1
    return found
