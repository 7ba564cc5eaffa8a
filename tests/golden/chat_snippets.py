"""Small templates: by hand, and expressions and statements drawn by seed (make_chat_templates.py)."""

import random

VARIABLES = {
    "n": 7, "neg": -3, "zero": 0, "big": 9007199254740993, "f": 2.5, "g": -0.1, "huge": 1e300,
    "yes": True, "no": False, "nil": None,
    "s": "Hello, World", "empty": "", "uni": "naïve ß ﬁ 日本語 🙂", "spaces": "  a  b \n", "num": "42",
    "html": "<a href='x'>&\"</a>", "lines": "one\n\n two\nthree\n", "quoted": "it's \"both\"\\",
    "list": [3, 1, 2], "words": ["b", "A", "c", "a"], "mixed": [1, "a", None, True, 2.5],
    "none_list": [], "nested": [[1, 2], [3], []],
    "d": {"b": 1, "a": 2, "C": 3}, "deep": {"x": {"y": [10, {"z": "end"}]}, "items": "own"},
    "users": [{"name": "Ann", "age": 30, "city": {"n": "X"}}, {"name": "bob", "age": 25},
              {"name": "Cy", "age": 30, "city": {"n": "x"}}],
    "control": "\x00\x01\x1f\x7f\x80\u200b\u2028\ud7ff\ue000",
}

EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
2 ** 3 ** 2
-2 ** 2
2 ** -1
-7 // 2
-7 % 3
7 % -3
-7.5 // 2
-7.5 % 2
7 / 2
6 / 2
1 / 0
1 // 0
1 % 0
1.0 // 0
0.1 + 0.2
1e16
1e15
123456789.123
1e-4
1e-5
1e22
1e300 * 1e10
-0.0
0 * -1.0
5 // 0.3
big * big
big + 0.5
10 ** 20
2 ** 100
1_000_000
0x1F + 0b101 + 0o17
0xDEAD_BEEF
00
007
1.5e3
1_0.0_1e1_0
1.
.5
'a' + 'b'
'a' + 1
'a' * 3
3 * 'ab'
'a' * -1
'a' * 0
[1] * 2
[1, 2] + [3]
(1, 2) + (3,)
[1] + (2,)
1 + true
true + true
-true
+true
+'a'
-'a'
not 1
not not 'a'
not none
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2 != 1
1 == 1.0 == true
'a' < 'b'
'a' < 1
[1, 2] < [1, 3]
[1, 2] < [1, 'a']
(1,) < (1, 2)
[1] == (1,)
[1, [2]] == [1, [2.0]]
{'a': 1} == {'a': 1.0}
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
nil == none
nil < 1
missing == missing2
missing == none
missing == ''
missing != missing
missing + 1
missing < 1
missing.x
missing['x']
missing()
missing
missing is defined
missing is undefined
d.missing
d.missing.x
d['missing']
d['missing'] is defined
nil.x
nil['x']
nil.x.y
n.x
s.foo
s[0]
s[-1]
s[100]
s['x']
list[0]
list[-1]
list[3]
list['0']
list.0
nested.0.1
list.x
uni[5]
uni[2:6]
uni[::-1]
uni|length
s[1:4]
s[:-1]
s[-3:]
s[::2]
s[::-2]
s[10:2:-3]
s[5:2]
s[1:100]
s[-100:3]
s[::0]
list[1:]
list[::-1]
list[:]
list[-2:]
(1, 2, 3)[::-1]
range(10)[2:8:2]|list
range(10)[2:8]
d[1:2]
nil[1:]
1[0]
list[1.0]
list[true]
list['a':]
deep.x.y[1].z
deep['x']['y'][0]
deep.items
deep['items']
d.items()
d.keys()
d.values()
d.keys()|list
d.items()|list
d.items()|length
d.keys()[0]
d.get('a')
d.get('q')
d.get('q', 5)
d.get()
d.copy()
d.pop('a')
d.update({'z': 1})
d.setdefault('z', 1)
d.clear()
d.a
d.C
d['C']
d[0]
{1: 'a', 1.0: 'b', true: 'c'}
{1: 'a'}[true]
{none: 1}[none]
{(1, 2): 3}[(1, 2)]
{[1]: 2}
{'a': 1, 'a': 2}
{}
[]
()
(1,)
(1, 2)
(1)
[1, 2,]
{'a': 1,}
(1, 2,)
1, 2
1,
[1, [2, [3, ['x']]]]
{'k': [1, {'z': none}]}
'a' 'b' "c"
'a\nb\t\'\"\\'
'\x41\u00e9\U0001F642\101\0'
'\q\é'
'\N{DASH}'
'\x4'
'\ud800'
"tab	inside"
'multi
line'
[quoted, control, uni]
quoted
control
[1.0, 1e100, -0.0, 1e16, 0.00001]
'x' in 'xyz'
'' in 'abc'
1 in list
5 not in list
'a' in d
1 in d
[1] in d
1 in 'a'
'a' in missing
1 in nil
1 in 5
not 1 in list
1 in list == true
'a' ~ 1 ~ none ~ true ~ 2.5
'a' ~ [1, 'b'] ~ missing
1 ~ 2 + 3
1 + 2 ~ 3
'a' if yes else 'b'
'a' if no else 'b'
'a' if no
('a' if no) is defined
('a' if no).x
1 if 0 else 2 if 0 else 3
(1 if yes) + 1
1 or 2
0 or none
0 and 1
1 and 'x'
none or 'default'
'' or [] or {} or 0 or 'last'
missing or 'x'
1 and missing
yes and no or yes
not yes or yes
1 is number
true is number
1.0 is number
'1' is number
1 is integer
true is integer
1.0 is float
1 is float
s is string
nil is string
missing is string
list is sequence
s is sequence
d is sequence
nil is sequence
d.items() is sequence
missing is sequence
range(3) is sequence
list is iterable
s is iterable
d is iterable
n is iterable
nil is iterable
missing is iterable
d is mapping
list is mapping
missing is mapping
nil is none
missing is none
yes is true
1 is true
no is false
0 is false
yes is boolean
1 is boolean
3 is odd
4 is even
3.0 is odd
'a' is odd
9 is divisibleby 3
9 is divisibleby(4)
9 is divisibleby 0
1 is sameas 1
yes is sameas true
1 is sameas true
nil is sameas none
list is sameas list
[] is sameas []
1 is eq 1
1 is equalto 2
1 is ne 2
2 is gt 1
2 is greaterthan 1
2 is ge 2
1 is lt 2
1 is lessthan 2
1 is le 1
'a' is lt 1
1 is in list
1 is not in list
9 is not divisibleby 2
'abc' is lower
'ABC' is upper
'aB' is lower
'' is lower
1 is lower
'ß' is lower
s is not string
s is not none and n is integer
range is callable
s is callable
s.upper is callable
missing is callable
'upper' is filter
'nope' is filter
'odd' is test
s is escaped
s|safe is escaped
1 is defined
n is nope
1 is odd is even
not n is none
-n is number
- n is number
n + 1 is number
(n + 1) is odd
s is string and 'x' or 'y'
s|upper
s|lower
uni|upper
uni|lower
uni|title
uni|capitalize
'ΑΒΓ'|lower
'ǆ ǅ Ǆ'|title
'ŉ ǰ ﬀ ﬃ'|upper
"they're bill's friends (from) the-uk"|title
"they're bill's friends (from) the-uk".title()
s.swapcase()
'hELLO wORLD'|capitalize
nil|upper
1|upper
missing|upper
list|upper
s|length
list|count
d|length
missing|length
nil|length
n|length
s|first
s|last
list|first
list|last
none_list|first
none_list|last
none_list|first is defined
d|first
d|last
missing|first
missing|last
nil|first
list|map('string')|first
list|map('string')|last
list|reverse|list
s|reverse
d|reverse|list
list|map('string')|reverse|list
range(4)|reverse|list
nil|reverse
list|sort
words|sort
words|sort(case_sensitive=true)
words|sort(true)
words|sort(reverse=true)|first
mixed|sort
users|sort(attribute='age')|map(attribute='name')|join(',')
users|sort(attribute='age,name')|map(attribute='name')|join(',')
users|sort(attribute='age', reverse=true)|map(attribute='name')|join(',')
users|sort(attribute='city.n')
d|sort
s|sort|join
d|dictsort
d|dictsort(true)
d|dictsort(false, 'value')
d|dictsort(by='value', reverse=true)
d|dictsort(by='x')
list|dictsort
words|unique|list
words|unique(true)|list
mixed|unique|list
users|unique(attribute='age')|map(attribute='name')|list
nested|unique|list
list|min
list|max
words|min
words|max
words|max(true)
none_list|min
mixed|max
users|min(attribute='age')
users|max(attribute='name')
list|sum
users|sum(attribute='age')
users|sum('age', 10)
nested|sum(start=[])
words|sum
none_list|sum
[1, 2.5]|sum
list|join
list|join(', ')
words|join('-')
mixed|join('|')
users|join(', ', attribute='name')
users|join(', ', 'age')
nil|join
s|join('.')
d|join(',')
none_list|join('x')
n|join
list|join(1)
s|list
d|list
range(3)|list
missing|list
n|list
users|map(attribute='name')|list
users|map(attribute='city.n')|list
users|map(attribute='nope')|list
users|map(attribute='nope', default='?')|list
users|map(attribute='city.n', default='?')|join
nested|map(attribute='0')|list
nested|map(attribute=0)|list
nested|map('length')|list
words|map('upper')|join
words|map('replace', 'a', 'X')|list
words|map('default', 'x')|list
list|map('nope')|list
list|map|list
list|map('string')|length
nil|map('upper')|list
none_list|map('nope')|list
list|select('odd')|list
list|select('gt', 1)|list
list|reject('odd')|list
mixed|select|list
mixed|reject|list
mixed|select('string')|list
mixed|select('none')|list
list|select('divisibleby', 3)|list
words|select('in', 'abc')|list
list|select('nope')|list
users|selectattr('age', 'equalto', 30)|map(attribute='name')|list
users|selectattr('city')|map(attribute='name')|list
users|selectattr('city', 'defined')|list|length
users|rejectattr('city', 'defined')|map(attribute='name')|join
users|selectattr('city.n', 'eq', 'X')|list|length
users|selectattr|list
users|rejectattr('age', 'gt', 26)|map(attribute='name')|first
users|groupby('age')|length
users|groupby('age')|map(attribute='grouper')|list
users|groupby('age')|map(attribute='list')|map('length')|list
users|groupby('city.n', default='-')|map('first')|list
users|groupby('name', case_sensitive=true)|map('first')|list
(users|groupby('age'))[0].list|length
list|batch(2)|list
list|batch(2, 'x')|list
list|batch(0)|list
range(7)|slice(3)|list
range(7)|slice(3, 'x')|list
list|slice(0)|list
missing|default('x')
missing|d
nil|default('x')
nil|default('x', true)
''|default('x', boolean=true)
d.q|default(5)
missing.q|default(5)
0|default(1, true)
s|trim
spaces|trim
spaces|trim ~ '|'
'xxaxx'|trim('x')
'xyaxy'|trim('yx')
n|trim
s|replace('l', 'L')
s|replace('l', 'L', 1)
s|replace('', '-')
s|replace('', '-', 3)
s|replace('o', '')
s|replace(1, 2)
n|replace('7', 'x')
s|replace('l')
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, first=true, blank=true)
lines|indent('> ', blank=true)
lines|indent(width=0)
'a'|indent
''|indent
n|indent
missing|indent
'a\r\nb\x0bc\x1cd\x85e\u2028f'|indent(1)
s|wordcount
uni|wordcount
"it's a-b_c"|wordcount
s|truncate(5)
s|truncate(5, true, '', 0)
s|truncate(9, false, '…', 0)
s|truncate(10)
s|center(20) ~ '|'
'abc'|center(6) ~ '|'
'abc'|center(8) ~ '|'
'ab'|center(5) ~ '|'
num|int
'x'|int
'x'|int(5)
'0x1f'|int(0, 16)
'1f'|int(base=16)
'0b11'|int(base=2)
'101'|int(0, 2)
'3.7'|int
'-3.7'|int
' 12 '|int
'1_000'|int
'1__0'|int
2.9|int
-2.9|int
nil|int
list|int
missing|int
true|int
'inf'|int
'nan'|int
1e400|int
'1e3'|int
num|float
'x'|float
'1e5'|float
'.5'|float
'5.'|float
'inf'|float
' -1.5 '|float
'1_0.5'|float
'+-1'|float
nil|float
1|float
true|float
2.5|round
3.5|round
-2.5|round
2.675|round(2)
42.55|round(1, 'floor')
42.55|round(1, 'ceil')
42.1|round(0, 'ceil')
5|round
5|round(2)
5|round(1, 'floor')
2.5|round|int
'a'|round
2.5|round(1, 'nope')
1e22|round(2)
0.1|round(20)
-3|abs
-3.5|abs
true|abs
'a'|abs
nil|string
n|string
list|string
s|string
1.0|string
list|safe
html|e
html|escape
html|safe
html|safe|e
html|e|e
html|forceescape
'<' + (html|safe)
(html|safe) + '<'
(html|safe) + (html|e)
'<' ~ (html|safe)
(html|safe)|upper
(html|e)|length
(html|safe)[0:3] + '<'
(html|safe).replace('a', '<')
html|safe|trim + '&'
[html|safe]
html|safe == html
s|urlencode
uni|urlencode
'a b/c&d=é'|urlencode
d|urlencode
{'a b': 'c/d', 'é': 1}|urlencode
d|items|list
missing|items|list
list|items|list
d|items|first
d|tojson
deep|tojson
users|tojson
uni|tojson
control|tojson
quoted|tojson
html|tojson
nil|tojson
yes|tojson
n|tojson
f|tojson
huge|tojson
1e16|tojson
-0.0|tojson
(1, 'a')|tojson
[]|tojson
{}|tojson
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
{(1, 2): 3}|tojson
missing|tojson
d.items()|tojson
range(3)|tojson
list|map('string')|tojson
d|tojson(indent=2)
deep|tojson(indent=4)
[]|tojson(indent=2)
[[], {}]|tojson(indent=1)
d|tojson(indent=0)
d|tojson(indent='--')
d|tojson(indent=none)
d|tojson(separators=(',', ':'))
d|tojson(indent=1, separators=(', ', ' : '))
d|tojson(sort_keys=true)
d|tojson(true, 1, none, true)
uni|tojson(ensure_ascii=true)
control|tojson(ensure_ascii=true)
d|tojson(nope=1)
(d|tojson)|length
s|tojson|safe
'%s and %s'|format('a', 1)
'%d %i %5d|%-5d|%05d'|format(1, 2, 3, 4, 5)
'%.2f %e %g %x %X %o %%'|format(1.005, 12345.678, 0.0001, 255, 255, 8)
'%(a)s-%(b)s'|format(a=1, b='x')
'%s' % 5
'%s %s' % (1, 'a')
'%s' % (1, 2)
'%s %s' % 1
'%r' % 'a'
'%5s|%-5s|%.2s' % ('ab', 'cd', 'efg')
'%d' % 'a'
'%d' % 2.7
'%+d % d' % (3, 4)
'%#x' % 255
'%s' % none
'%s' % missing
'%s' % list
'%(a)s' % {'a': 1}
'%y' % 1
'%' % 1
'100%' % ()
'{} {}'.format(1, 'a')
'{0} {1} {0}'.format('x', 'y')
'{a} {b}'.format(a=1, b=[1, 'z'])
'{} {0}'.format(1)
'{}'.format()
'{{}} {}'.format(1)
'{'.format()
'}'.format()
'{a.b} {c[0]} {c[k]}'.format(a=deep, c=d)
'{0[x][y][0]}'.format(deep)
'{!r} {!s}'.format('a', 'b')
'{:5}|{:<5}|{:>5}|{:^5}|'.format('ab', 'cd', 'ef', 'gh')
'{:5}|{:<5}|{:05d}|{:+d}'.format(1, 2, 3, 4)
'{:.2f} {:,} {:x} {:08.3f} {:e} {:%}'.format(3.14159, 1234567, 255, 3.14159, 12345.6789, 0.25)
'{:*^9}'.format('mid')
'{:.3}'.format('abcdef')
'{:.3}'.format(3.14159)
'{:d}'.format('a')
'{:s}'.format(1)
'{:b} {:o} {:#x}'.format(5, 8, 255)
'{}'.format(none)
'{:5}'.format(none)
'{}{}'.format(*[1, 2])
'{a}'.format(**{'a': 1})
s.upper()
s.lower()
s.split()
s.split(',')
s.split(', ', 1)
'a,b,c'.split(',', 1)
'a,b,c'.split(',', maxsplit=1)
'a,b,c'.rsplit(',', 1)
' a  b c '.split()
' a  b c '.split(none, 1)
' a  b c '.rsplit(none, 1)
' a '.split(' ')
''.split()
''.split(',')
'abc'.split('')
'abc'.split(1)
'a,b'.split(sep=',')
'aXbXc'.split('X')[-1]
'</think>x'.split('</think>')
lines.splitlines()
lines.splitlines(true)
'a\rb\r\nc\n'.splitlines()
spaces.strip()
spaces.lstrip() ~ '|'
spaces.rstrip() ~ '|'
'xxaxx'.strip('x')
'\n\na\n'.lstrip('\n').rstrip('\n')
'\x1c\u3000a\u00a0'.strip()
'a'.strip(none)
'a'.strip(1)
s.startswith('Hell')
s.startswith(('x', 'H'))
s.startswith('e', 1)
s.startswith(1)
s.endswith('ld')
s.endswith(('x', 'd'))
s.endswith('l', 0, -1)
s.find('o')
s.find('o', 5)
s.find('zz')
s.find('')
s.find('', 100)
uni.find('日')
s.rfind('o')
s.index('W')
s.index('zz')
s.rindex('o')
s.count('o')
s.count('')
s.count('l', 4)
s.replace('o', '0')
s.replace('o', '0', 1)
s.replace('l', 'LL', -1)
s.replace(1, 2)
s.title()
s.capitalize()
'-'.join(words)
'-'.join(list)
'-'.join([])
''.join('abc')
', '.join(d)
s.join()
'a'.isalpha()
'é日'.isalpha()
''.isalpha()
'12'.isdigit()
'²'.isdigit()
'²'.isdecimal()
'a1'.isalnum()
' \n'.isspace()
'A'.isupper()
'a'.islower()
'a1 b'.islower()
'ab'.zfill(5)
'-5'.zfill(4)
'ab'.ljust(4) ~ '|'
'ab'.rjust(4, '.')
'ab'.center(5, '*')
'ab'.center(5, '**')
'abc'.partition('b')
'abc'.partition('z')
'abcbd'.rpartition('b')
'abc'.rpartition('z')
'abc'.partition('')
'prefix-a'.removeprefix('prefix-')
'a.txt'.removesuffix('.txt')
'abc'.nope()
'abc'.__class__
'abc'.__class__.x
''.__class__.__mro__
list.append(4)
list.append
list.append is defined
list.pop()
list.index(1)
list.index(9)
list.count(1)
list.copy()
(1, 2).count(1)
(1, 2).index(2)
list.insert(0, 1)
range(5)
range(5)|list
range(2, 5)|list
range(5, 0, -2)|list
range(0)|list
range(-3)|list
range(3, 1)|list
range(1, 10, 3)
range(3)|length
range(3)[1]
range(3)[-1]
range(3)[5]
range(3) == range(3)
2 in range(3)
range(1.0)
range()
range('a')
range(0, 1, 0)
range(1000000)
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('a', 1), ('b', 2)])
dict(d, a=9)
dict(1)
dict([1])
namespace(a=1).a
namespace(a=1).b
namespace(a=1).b is defined
namespace({'a': 1}, b=2).b
namespace(a=1)
namespace(_a=1)
namespace(a=1)['a']
raise_exception('no')
raise_exception()
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d %H:%M:%S')
strftime_now('%A, %B %d, %y %j %p %I')
strftime_now('')
strftime_now(1)
cycler('a', 'b').next()
cycler()
joiner()()
nope(1)
n()
s()
s.upper
namespace.x
loop is defined
s|nope
s|upper|nope
s | upper | lower
s|upper.x
(s|upper).x
s|replace('l', 'x')|upper
-n|abs
(-n)|abs
- 3 | abs
n|abs + 1
n + neg|abs
1 + 2|string
(1 + 2)|string ~ 'x'
not s|length
s|length > 5
s|length > 5 and n
s.split(',')|map('trim')|join('+')
'a' in s.lower() and 'b' not in s
d['a'] + d.b
[x for x in list]
lambda: 1
{'a' 1}
{'a': }
[1 2]
(1
1)
[1}
{
s.
s.1
s[
s[]
s[1,2]
d[1,2]
s[:::]
1 +
+
* 2
a b
1 === 1
1 <> 2
a ! b
a & b
$x
s|
s|1
s is
s is 1
s is not
f(a=1, a=2)
f(a=1, 2)
f(*a, 1)
dict(**d)
dict(**{'x': 1}, **d)
dict(a=1, **{'a': 2})
range(*[1, 4])|list
range(*list)
d.get(*['a'])
d.get(**{'key': 'a'})
true
True
TRUE
none
None
NONE
trueish
and
not
in
if
is
1 if
1 if 2 else
x.y.z is defined
users[0].name
users[0]['name']
users[-1].city.n
users[5].name
users.0.name
users|length is gt 2
(users|first).name
users[0].items()|list|length
users|map(attribute='name')|map('lower')|sort|join(' ')
1 in [1, 2] and 3 not in [1, 2]
[1, 2] == [1, 2] and [1] != [2]
yes == 1 == 1.0
no == 0
nil is none and nil is not defined
(nil, 1)[0]
((1, 2), 3)[0][1]
{'a': {'b': {'c': 1}}}.a.b.c
{'a': 1}.items()|list
{'items': 1}.items
{'items': 1}['items']
{'get': 1}.get
'a'.upper() ~ 'b'.upper()
'abc'[1].upper()
'%s'|format(s)|length
huge * huge
-huge * huge
huge * huge - huge * huge
(huge * huge) is number
1e308 * 10 == 1e309
"é" < "z"
"Z" < "a"
'🙂' > 'z'
1 < 1.5 <= 2
9007199254740993 == 9007199254740992.0
big == 9007199254740993
0.1 + 0.2 == 0.3
7 // 2.0
7.0 % 3
2 ** 0.5
(-8) ** 0.5
0 ** 0
0 ** -1
1 ** 1000
(-1) ** 1001
2 ** 200
10 ** 38 * 10
4 ** 0.5
'a' % 1
'a' // 1
{} + {}
[] - []
nil + nil
-nil
+missing
1 - missing
list * 1.0
list * true
""".strip("\n")

TEMPLATES = [
    # white space
    "a {{ 1 }} b", "a {{- 1 -}} b", "a\n{{- 1 -}}\nb", "a\n{{ 1 }}\nb", "a\n{{+ 1 }}\n",
    "  {% if yes %}\n  x\n  {% endif %}\ny", "a {% if yes %} x {% endif %} b",
    "a\n  {%- if yes -%}\n  x\n  {%- endif -%}\n  b", "a\n  {%+ if yes %}\n x{% endif +%}\n b",
    "{% if yes %}\n\n  x{% endif %}\n\n", "x\n", "x\n\n", "\n", "", "\n\nx", "a\r\nb\rc\r\n",
    "  {# comment #}\n x", "a {# c #} b", "a {#- c -#} b", "a\n {#+ c +#}\n b", "a {# {{ x }} #} b",
    "{# a #}{# b #}x", "{#-#}x", "{##}x", "a{# unclosed", "a #} b", "a }} b %} c", "{ {a} }", "a{", "{",
    "{% raw %}{{ x }}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b",
    " {% raw %}\n x {{ }}\n {% endraw %}\n y", "{% raw %}{% if %}{% endraw %}", "{% raw %}x",
    "{%raw%}{{{%endraw%}", "{% raw %}a{% endraw %}{% raw %}b{% endraw %}", "{%+ raw %} a {%+ endraw +%}\nb",
    "\t {% set a = 1 %}\n{{ a }}", "x {% set a = 1 %}\n{{ a }}", "{{ 1 }}  {% if yes %}a{% endif %}",
    "{% if yes %}a{% endif %}  {% if yes %}b{% endif %}", "{{ 1 }}\n  {% if yes %}a{% endif %}",
    "\u00a0{% if yes %}a{% endif %}", "a\u3000{%- if yes %}b{% endif %}", "{%- if yes %}  {%- endif %}",
    "{{-1}}", "{{- -1}}", "{{+1}}", "{{ -1 }}", "{{1-}}", "{{ 1 -}}  x", "{{ '}}' }}", "{{ '%}' }}",
    "{% if '%}' %}a{% endif %}", "{{ {'a': {'b': 1}}.a.b}}", "{{ {'a': {'b': 1}} }}", "{{{}}}",
    "{% set x = {'a': [1, {}]} %}{{ x }}", "{{ [\n1,\n2\n] }}", "{{\n n\n}}",
    # if
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% if no %}a{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if missing.x %}a{% endif %}",
    "{% if 1, 2 %}a{% endif %}", "{% if yes: %}a{% endif %}", "{% if %}a{% endif %}", "{% if yes %}a",
    "{% if yes %}a{% else %}b{% else %}c{% endif %}", "{% endif %}", "{% else %}", "{% elif yes %}",
    "{% if yes %}{% for x in list %}{% endif %}{% endfor %}", "{% if yes }}a{% endif %}", "{{ n %}",
    "{% if a if b else c %}x{% endif %}", "{% if (1 if no else 0) %}x{% else %}y{% endif %}",
    # for
    "{% for x in list %}{{ x }}{% endfor %}", "{% for x in list %}{{ x }},{% endfor %}{{ x }}",
    "{% for x in none_list %}a{% else %}b{% endfor %}", "{% for x in list %}a{% else %}b{% endfor %}",
    "{% for x in missing %}a{% else %}b{% endfor %}", "{% for x in nil %}a{% endfor %}",
    "{% for x in n %}a{% endfor %}", "{% for c in uni %}[{{ c }}]{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in list %}{% endfor %}",
    "{% for a, b in nested %}{% endfor %}", "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, in [(1,)] %}{{ a }}{% endfor %}", "{% for a, b in ['xy'] %}{{ a }}-{{ b }}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in list if x > 1 %}{{ x }}{% endfor %}",
    "{% for x in list if x > 9 %}a{% else %}none{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {% endfor %}",
    "{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in list %}{{ loop.previtem is defined }}{{ loop.nextitem is undefined }} {% endfor %}",
    "{% for x in list %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in list %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in list %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{% for x in list %}{{ loop.nope }}{% endfor %}",
    "{% for x in list %}{% for y in nested %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in list %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in list %}{% if loop.first %}a{% elif loop.last %}c{% else %}b{% endif %}{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% break %}{% else %}e{% endfor %}", "{% for x in list %}{% continue %}{% else %}e{% endfor %}",
    "{% break %}", "{% continue %}", "{% for x in list %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for loop in list %}{% endfor %}", "{% for x in list %}{% set loop = 1 %}{% endfor %}",
    "{% for x in list %}{{ x }}", "{% for x list %}{% endfor %}", "{% for in list %}{% endfor %}",
    "{% for 1 in list %}{% endfor %}", "{% for x.y in list %}{% endfor %}", "{% for x in %}{% endfor %}",
    "{% for x in list -%} {{ x }} {%- endfor %}", "{% for x in list %}\n{{ x }}\n{% endfor %}\n",
    "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in (list if yes else nested) %}{{ x }}{% endfor %}",
    "{% for x in list|sort|reverse %}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in list %}{% set y = x %}{% endfor %}{{ y }}", "{% set y = 0 %}{% for x in list %}{% set y = y + x %}{{ y }} {% endfor %}{{ y }}",
    "{% set ns = namespace(y=0) %}{% for x in list %}{% set ns.y = ns.y + x %}{% endfor %}{{ ns.y }}",
    "{% set ns = namespace(f=false) %}{% for x in list if not ns.f %}{% set ns.f = true %}{{ x }}{% endfor %}",
    "{% set ns = namespace(f=false) %}{% for x in list if not ns.f %}{{ loop.last }}{% set ns.f = true %}{{ x }}{% endfor %}",
    "{% set ns = namespace(f=false) %}{% for x in list if not ns.f %}{{ loop.length }}{% set ns.f = true %}{{ x }}{% endfor %}",
    "{% for x in list if loop.index > 1 %}{{ x }}{% endfor %}", "{% for x in list %}{{ loop }}{% endfor %}",
    "{% for x in list recursive %}{{ x }}{% endfor %}" if False else "{% for u in users %}{{ u.name }}{% endfor %}",
    "{% for g in users|groupby('age') %}{{ g.grouper }}:{% for u in g.list %}{{ u.name }} {% endfor %};{% endfor %}",
    "{% for age, us in users|groupby('age') %}{{ age }}={{ us|length }} {% endfor %}",
    "{% set it = list|map('string') %}{% for x in it %}{{ x }}{% endfor %}-{% for x in it %}{{ x }}{% endfor %}",
    "{% set it = list|map('string') %}{{ it|first }}{{ it|list }}", "{% set it = list|map('string') %}{{ '1' in it }}{{ it|list }}",
    # set
    "{% set a = 1 %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = 1 %}", "{% set a, b = 1, 2, 3 %}",
    "{% set (a, b) = (1, 2) %}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ 1 }}{% endset %}{{ a }}",
    "{% set a | upper %}x{{ 1 }}{% endset %}{{ a }}", "{% set a | replace('x', 'y') | upper %}x{% endset %}{{ a }}",
    "{% set a %}{% set b = 2 %}{{ b }}{% endset %}{{ a }}{{ b }}", "{% set a = %}", "{% set = 1 %}", "{% set 1 = 1 %}",
    "{% set a.b = 1 %}", "{% set d.b = 1 %}", "{% set s.b = 1 %}", "{% set true = 1 %}", "{% set a = 1 if no %}{{ a }}",
    "{% set ns = namespace() %}{% set ns.x = [1] %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set ns = namespace(a=1) %}{% set ns.b %}t{% endset %}{{ ns.b }}{{ ns.a }}",
    "{% set ns = namespace(l=[]) %}{% for x in list %}{% set ns.l = ns.l + [x] %}{% endfor %}{{ ns.l }}",
    "{% if yes %}{% set a = 1 %}{% endif %}{{ a }}", "{% if no %}{% set a = 1 %}{% endif %}{{ a }}",
    "{% if no %}{% set s = 1 %}{% endif %}{{ s }}", "{% set s = s ~ '!' %}{{ s }}", "{{ a }}{% set a = 1 %}{{ a }}",
    "{% for x in [1, 2] %}{{ s }}{% set s = x %}{{ s }}{% endfor %}{{ s }}", "{% set x = x|default(1) %}{{ x }}",
    "{% set range = 5 %}{{ range }}", "{% set a = 1 %}{% set a = a + 1 %}{{ a }}", "{% set a = 1 -%}\n\n{{ a }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}", "{% with a %}{% endwith %}",
    # macros
    "{% macro m() %}x{% endmacro %}{{ m() }}", "{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=4, a=5) }}",
    "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=1) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(a, a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ a }}{{ varargs|length }}{% endmacro %}{{ m(1, 2, 3) }}",
    "{% macro m() %}{{ kwargs.x }}{% endmacro %}{{ m(x=1) }}{{ m() }}", "{% macro m() %}{{ g }}{% endmacro %}{% set g = 3 %}{{ m() }}",
    "{% macro m() %}{% set y = 1 %}{{ y }}{% endmacro %}{{ m() }}{{ y }}", "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m(x) %}{% for i in x %}{% if i is iterable %}({{ m(i) }}){% else %}{{ i }}{% endif %}{% endfor %}{% endmacro %}{{ m([1, [2, [3]], 4]) }}",
    "{{ m() }}{% macro m() %}x{% endmacro %}", "{% if yes %}{% macro m() %}x{% endmacro %}{% endif %}{{ m() }}",
    "{% for x in list %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% for x in list %}{% macro m() %}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro m() %}\n  x\n{% endmacro %}\n{{ m() }}|",
    "{% macro m() -%}\n  x\n{%- endmacro %}[{{ m() }}]", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro m() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro m(x) %}{{ caller(x) }}{{ x }}{% endmacro %}{% set x = 9 %}{% call(y) m(5) %}{{ y }}{{ x }}{% endcall %}", "{% call n %}{% endcall %}", "{% call n() %}{% endcall %}",
    "{% macro m %}{% endmacro %}", "{% macro () %}{% endmacro %}", "{% macro m(1) %}{% endmacro %}", "{% macro m() %}x",
    "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is defined }}", "{% macro m() %}{% endmacro %}{{ m is callable }}{{ m()|length }}",
    "{% macro m() %}<{% endmacro %}{{ m() ~ m()|e }}", "{% macro m(d={}) %}{{ d }}{% endmacro %}{{ m() }}{{ m({1: 2}) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'a': 2}) }}",
    "{% set f = namespace() %}{% macro m() %}M{% endmacro %}{% set f.m = m %}{{ f.m() }}", "{% macro m(s) %}{{ s }}{% endmacro %}{{ m(1) }}{{ s }}",
    # filter blocks, generation, others
    "{% filter upper %}a{{ 'b' }}{% endfilter %}", "{% filter upper|replace('A', 'x') %}ab{% endfilter %}", "{% filter nope %}{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}",
    "{% filter trim %}{% set q = 1 %} {{ q }} {% endfilter %}{{ q }}", "{% filter %}{% endfilter %}", "{% generation %}x{{ n }}{% endgeneration %}",
    "{% for x in list %}{% generation %}{{ x }}{{ loop.index }}{% set z = 1 %}{% endgeneration %}{{ z }}{% endfor %}", "a\n{% generation %}\nb\n{% endgeneration %}\nc", "{% generation %}",
    "{% for x in list %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% print n %}", "{% print n, s %}", "{% nope %}", "{% 1 %}", "{% %}", "{%", "{{", "{{ }}", "{{ n", "{% if n", "{% set x",
    "{% if s|nope %}{% endif %}", "{% if no %}{{ s|nope }}{% endif %}ok", "{% if yes %}{{ s|nope }}{% endif %}ok", "{{ (s|nope) if no else 'ok' }}", "{{ s|nope if no }}", "{% if no %}{{ s is nope }}{% endif %}ok",
    "{% if no %}{% for x in list %}{{ x|nope }}{% endfor %}{% endif %}ok", "{% for x in list if x|nope %}{% endfor %}", "{% macro m() %}{{ 1|nope }}{% endmacro %}ok", "{{ 'a' if yes else s|nope }}", "{{ [s|nope if no] }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "{% set j = joiner('|') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}", "{% set x = [1] %}{% set y = x %}{{ x is sameas y }}",
    "{% set content = '<think>a</think>\\n\\nb' %}{{ content.split('</think>')[-1].lstrip('\\n') }}",
    "{% if s is string and s|length > 3 %}{{ s[:3] }}{% endif %}", "{{ raise_exception('stop: ' + s) }}", "{% if not no %}{{ raise_exception('x') }}{% endif %}",
    "{% for m in users %}{%- set role = m.name|lower -%}{{ '<|' ~ role ~ '|>\\n' }}{% if 'city' in m %}{{ m.city|tojson }}{% endif %}{% endfor %}",
    "{% set loop_messages = users[1:] %}{% for m in loop_messages[::-1] %}{{ m.name }}{{ loop.index0 % 2 == 0 }}{% endfor %}",
    "{{ users | selectattr('age', 'equalto', 30) | map(attribute='name') | join(', ') }}\n{%- if (users|length) is divisibleby(3) %} three{% endif -%}\n end",
]

ATOMS = ["n", "neg", "zero", "f", "g", "yes", "no", "nil", "s", "empty", "uni", "num", "list", "words", "mixed",
         "none_list", "nested", "d", "deep", "users", "missing", "1", "2", "-1", "0", "3.5", "1e3", "'a'", "'l'", "''",
         "' b '", "[]", "[1, 2]", "(1, 'x')", "{'k': 1}", "{}", "true", "none", "'日本'", "range(4)"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list", "string", "int", "float",
           "abs", "round", "sort", "reverse|list", "unique|list", "join", "join('-')", "tojson", "tojson(indent=1)", "min",
           "max", "sum", "default('D')", "default('D', true)", "replace('l', '_')", "select|list", "map('string')|list",
           "reject('none')|list", "dictsort", "items|list", "batch(2)|list", "slice(2)|list", "indent(1)", "e", "safe",
           "wordcount", "select('string')|list", "map('length')|list", "round(1)", "center(9)", "truncate(6)", "urlencode"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence",
         "iterable", "true", "false", "odd", "even", "divisibleby 2", "eq 1", "in list", "lower", "upper", "sameas none"]
METHODS = ["upper()", "lower()", "strip()", "split()", "split('l')", "rsplit(' ', 1)", "startswith('H')", "endswith('d')",
           "replace('l', 'r')", "title()", "capitalize()", "find('l')", "count('l')", "items()|list", "keys()|list",
           "values()|list", "get('a')", "get('b', 0)", "lstrip('H')", "rstrip('d')", "join(words)", "isdigit()",
           "splitlines()", "index(1)", "copy()", "zfill(4)", "partition(' ')"]
SUBSCRIPTS = ["[0]", "[-1]", "['a']", "[1:]", "[:2]", "[::-1]", "[1:-1]", "[::2]", ".a", ".x", ".name", "[5]", "[n]"]


def draw(rng, depth):
    kind = rng.randrange(12)
    if depth == 0 or kind == 0:
        return rng.choice(ATOMS)
    if kind < 3:
        return f"({draw(rng, depth - 1)} {rng.choice(BINARY)} {draw(rng, depth - 1)})"
    if kind < 6:
        return f"({draw(rng, depth - 1)}|{rng.choice(FILTERS)})"
    if kind == 6:
        return f"({draw(rng, depth - 1)} is {rng.choice(['', 'not '])}{rng.choice(TESTS)})"
    if kind == 7:
        return f"({draw(rng, depth - 1)}).{rng.choice(METHODS)}"
    if kind == 8:
        return f"({draw(rng, depth - 1)}){rng.choice(SUBSCRIPTS)}"
    if kind == 9:
        return f"({draw(rng, depth - 1)} if {draw(rng, depth - 1)} else {draw(rng, depth - 1)})"
    if kind == 10:
        return rng.choice(["(not {})", "(-{})", "[{}, 1]", "({},)", "{{'q': {}}}"]).format(draw(rng, depth - 1))
    return f"{draw(rng, depth - 1)} {rng.choice(BINARY)} {draw(rng, depth - 1)} {rng.choice(BINARY)} {draw(rng, depth - 1)}"


def draw_block(rng, depth):
    kind = rng.randrange(9)
    if depth == 0 or kind < 2:
        return rng.choice(["t", " ", "\n", "  \n", " u\n "]) + tag(rng, "{{", draw(rng, 1), "}}")
    inner = draw_block(rng, depth - 1)
    space = rng.choice(["", "\n", " ", "\n  "])
    if kind == 2:
        return (tag(rng, "{%", f"if {draw(rng, 1)}", "%}") + inner + tag(rng, "{%", "else", "%}") + space
                + draw_block(rng, depth - 1) + tag(rng, "{%", "endif", "%}"))
    if kind == 3:
        names = rng.choice(["x", "x", "k, v"])
        condition = rng.choice(["", "", f" if {draw(rng, 1)}"])
        return (tag(rng, "{%", f"for {names} in {draw(rng, 1)}{condition}", "%}") + inner
                + "{{ loop." + rng.choice(["index", "last", "length", "first", "revindex0", "nextitem"]) + " }}"
                + space + tag(rng, "{%", "endfor", "%}"))
    if kind == 4:
        name = rng.choice(["x", "s", "q"])
        return space + tag(rng, "{%", f"set {name} = {draw(rng, 2)}", "%}") + inner + "{{ " + name + " }}"
    if kind == 5:
        name = rng.choice(["x", "q"])
        return tag(rng, "{%", f"set {name}", "%}") + inner + tag(rng, "{%", "endset", "%}") + "[{{ " + name + " }}]"
    if kind == 6:
        return (tag(rng, "{%", f"macro m(x, y={draw(rng, 1)})", "%}") + inner + "{{ x }}{{ y }}"
                + tag(rng, "{%", "endmacro", "%}") + space + "{{ m(" + draw(rng, 1) + ") }}")
    if kind == 7:
        return inner + space + draw_block(rng, depth - 1)
    return tag(rng, "{%", "set ns = namespace(v=0)", "%}") + inner + tag(rng, "{%", f"set ns.v = {draw(rng, 1)}", "%}") + "{{ ns.v }}"


def tag(rng, begin, inside, end):
    left, right = rng.choice(["", "", "-", "+"]), rng.choice(["", "", "-", "+" if end == "%}" else ""])
    return f"{begin}{left} {inside} {right}{end}"


def all_snippets():
    # An expression may go over lines; a line that begins one is not indented.
    lines = EXPRESSIONS.split("\n")
    joined = "\n".join(lines).replace("'multi\nline'", "'multi\x00line'").split("\n")
    for line in joined:
        yield "{{ " + line.replace("\x00", "\n") + " }}"
    yield from TEMPLATES
    rng = random.Random(4711)
    for _ in range(1500):
        yield "{{ " + draw(rng, 1 + rng.randrange(3)) + " }}"
    for _ in range(500):
        yield draw_block(rng, 1 + rng.randrange(3))
