package lua

import (
	vm "github.com/yuin/gopher-lua"
)

// library is a global table of functions and values. They are shared by all calls, which is safe because a script can change
// the table, which each call has its own of, but neither a Go function nor a number.
type library struct {
	name   string
	values map[string]vm.LValue
}

// globalFunctions are the functions outside of any library. There is nothing that loads code, reads files, changes environments or stops the garbage collector.
var globalFunctions = newGlobals()

var libraries = []*library{
	{"string", functions(map[string]vm.LGFunction{
		"byte": stringByte, "char": stringChar, "find": stringFind, "format": stringFormat, "gmatch": stringGmatch, "gsub": stringGsub,
		"len": stringLen, "lower": stringLower, "match": stringMatch, "rep": stringRep, "reverse": stringReverse, "sub": stringSub,
		"upper": stringUpper, "pack": stringPack, "packsize": stringPacksize, "unpack": stringUnpack,
	})},
	{"table", functions(map[string]vm.LGFunction{
		"concat": tableConcat, "getn": tableGetn, "insert": tableInsert, "maxn": tableMaxn, "pack": tablePack, "remove": tableRemove,
		"sort": tableSort, "unpack": tableUnpack,
	})},
	{"math", newMath()},
	{"bit32", bit32Functions},
	{"bit", bit32Functions},
	{"bytes", newBytes()},
	{"hex", functions(map[string]vm.LGFunction{"encode": hexEncode, "decode": hexDecode})},
	{"base64", functions(map[string]vm.LGFunction{"encode": base64Encode, "decode": base64Decode})},
	{"json", functions(map[string]vm.LGFunction{"encode": jsonEncode, "decode": jsonDecode, "array": jsonArray, "object": jsonObject})},
	{"cayennelpp", functions(map[string]vm.LGFunction{"encode": cayenneEncode, "decode": cayenneDecode})},
	{"log", functions(map[string]vm.LGFunction{"info": drop, "warn": drop})},
	{"os", functions(map[string]vm.LGFunction{"time": osTime, "date": osDate, "difftime": osDifftime})},
}

func functions(given map[string]vm.LGFunction) map[string]vm.LValue {
	out := make(map[string]vm.LValue, len(given))
	for name, f := range given {
		out[name] = &vm.LFunction{IsG: true, GFunction: f}
	}
	return out
}

// environment is what a script finds in its globals.
type environment struct {
	functions map[string]vm.LValue
	libraries []*library
	all       bool // _G itself
}

// environmentFor has what a script can reach: a global by its name, or all of them by _G.
// The string library is always there, for the methods of strings.
func environmentFor(mentioned map[string]bool) environment {
	e := environment{functions: map[string]vm.LValue{guardedName: globalFunctions[guardedName]}, all: mentioned["_G"]}
	for name, f := range globalFunctions {
		if e.all || mentioned[name] {
			e.functions[name] = f
		}
	}
	for _, lib := range libraries {
		if e.all || mentioned[lib.name] || lib.name == "string" {
			e.libraries = append(e.libraries, lib)
		}
	}
	return e
}

func newState(r *run, e environment) *vm.LState {
	l := vm.NewState(vm.Options{
		CallStackSize: maxCallDepth, RegistrySize: 256, RegistryMaxSize: maxRegistry, RegistryGrowStep: 1024,
		SkipOpenLibs: true, MinimizeStackMemory: true,
	})
	l.SetContext(r)
	globals := l.G.Global
	for name, f := range e.functions {
		globals.RawSetString(name, f)
	}
	for _, lib := range e.libraries {
		t := l.CreateTable(0, len(lib.values))
		for name, v := range lib.values {
			t.RawSetString(name, v)
		}
		globals.RawSetString(lib.name, t)
		switch lib.name {
		case "string":
			methods := l.CreateTable(0, 1)
			methods.RawSetString("__index", t)
			l.SetMetatable(vm.LString(""), methods)
		case "json":
			t.RawSetString("null", r.nullOf(l))
		}
	}
	if e.all {
		globals.RawSetString("_G", globals)
	}
	return l
}

// upstream gives functions of the virtual machine's own libraries that are safe as they are.
func upstream(open vm.LGFunction, library string, names ...string) map[string]vm.LValue {
	l := vm.NewState(vm.Options{SkipOpenLibs: true})
	defer l.Close()
	l.Push(l.NewFunction(open))
	l.Call(0, 0)
	out := make(map[string]vm.LValue, len(names))
	for _, name := range names {
		out[name] = l.G.Global.RawGetString(library).(*vm.LTable).RawGetString(name)
	}
	return out
}
