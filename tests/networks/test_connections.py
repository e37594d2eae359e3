"""Building general networks, and every mistake one can make with them."""

import inspect
import itertools

import networkx as nx
import numpy as np
import pytest

import jnn
from jnn.networks import UselessNeuronWarning

EDGES = [(1, 3), (2, 3), (1, 4), (3, 4), (2, 5), (3, 5), (4, 5)]  # 2 inputs, 2 hidden, 1 output


def matrix(edges, neurons):
    found = np.zeros((neurons, neurons), bool)
    for j, i in edges:
        found[i, j] = True
    return found


def test_matrix_edges_and_graph_are_the_same_network():
    from_edges = jnn.dag(2, 1, EDGES)
    assert from_edges == jnn.dag(2, 1, matrix(EDGES, 6))
    assert from_edges == jnn.dag(2, 1, np.array(EDGES)[::-1])
    assert from_edges == jnn.dag(2, 1, nx.DiGraph(EDGES))
    assert hash(from_edges) == hash(jnn.dag(2, 1, set(EDGES)))
    assert from_edges != jnn.dag(2, 1, EDGES[1:])
    assert from_edges != jnn.dag(2, 1, EDGES, "relu")
    assert from_edges.edges.tolist() == [[1, 3], [2, 3], [1, 4], [3, 4], [2, 5], [3, 5], [4, 5]]
    assert from_edges.weight_count == 7 + 3
    with pytest.raises(ValueError, match="read-only"):
        from_edges.edges[0] = 0


def test_bias_edges_are_as_given_or_everywhere():
    assert jnn.dag(2, 1, EDGES).biased.all()
    given = jnn.dag(2, 1, [*EDGES, (0, 4)])
    assert given.biased.tolist() == [False, True, False]
    assert given.weight_count == 8
    column = matrix(EDGES, 6)
    column[3:, 0] = True
    assert jnn.dag(2, 1, column) == jnn.dag(2, 1, EDGES)


def test_neurons_are_grouped_by_depth_and_activation():
    network = jnn.dag(2, 1, [(1, 3), (1, 4), (2, 5), (3, 6), (5, 6), (4, 7), (6, 7)], ["tanh", "relu", "tanh", "tanh"])
    assert [(neurons.tolist(), h.name) for neurons, h in network.groups] == [
        ([3, 5], "tanh"),
        ([4], "relu"),
        ([6], "tanh"),
        ([7], "identity"),
    ]
    assert network.depths.tolist() == [0, 0, 0, 1, 1, 1, 2, 3]


def test_evaluation_suits_the_connections():
    wide = [(j, i) for j in (1, 2) for i in range(3, 23)] + [(j, 23) for j in range(3, 23)]
    assert jnn.dag(2, 1, wide).evaluation == "blocks"
    deep = [(i - 1, i) for i in range(2, 60)]
    assert jnn.dag(1, 1, deep).evaluation == "sweep"
    sparse = [(j, j + 100) for j in range(1, 101)] + [(j, 201) for j in range(101, 201)]
    assert jnn.dag(100, 1, sparse).evaluation == "sweep"


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([*EDGES, (4, 3)], "have a cycle, 3 → 4 → 3"),
        ([*EDGES, (4, 4)], "have a cycle, 4 → 4"),
        ([(1, 4), (4, 3), (3, 5), (2, 3)], r"there is the edge 4 → 3.*number the neurons in topological order"),
        ([*EDGES, (1, 2)], "inputs and the bias unit read nothing, but there is the edge 1 → 2"),
        ([*EDGES, (0, 1)], "inputs and the bias unit read nothing"),
        ([*EDGES, (3, 5)], "each edge once, got 3 → 5 again"),
        ([*EDGES, (-1, 5)], "neuron numbers from 0 to 5, got the edge -1 → 5"),
        ([(1.0, 3.0)], "two integers"),
        ([(1, 2, 3)], "two integers"),
        ("abc", "two integers"),
        ([[False, True], [True, False]], "wrap the nested list in numpy.array"),
        (np.zeros((3, 4), bool), "square connection matrix"),
        (np.zeros((3, 3), bool), "at least 4 neurons"),
        (nx.Graph(EDGES), "directed graph"),
        (nx.DiGraph([("a", "b")]), "neuron numbers; got 'a'"),
    ],
)
def test_bad_connections(edges, message):
    with pytest.raises(ValueError, match=message):
        jnn.dag(2, 1, edges)


def test_long_cycle_is_named_in_order():
    with pytest.raises(ValueError, match="cycle") as caught:
        jnn.dag(1, 1, [(1, 2), (2, 3), (3, 4), (4, 2), (4, 5)])
    loop = str(caught.value).split("cycle, ")[1].split(";")[0].split(" → ")
    assert loop[0] == loop[-1]
    assert {("2", "3"), ("3", "4"), ("4", "2")} == set(itertools.pairwise(loop))


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="outputs cannot be read"):
        jnn.dag(1, 2, [(1, 2), (1, 3), (2, 3)])
    with pytest.raises(ValueError, match="inputs as an integer of at least 1, got 0"):
        jnn.dag(0, 1, EDGES)
    with pytest.raises(ValueError, match="outputs as an integer"):
        inspect.unwrap(jnn.dag)(2, 1.5, EDGES)
    with pytest.raises(ValueError, match="list of 2, one for each hidden neuron; got 3"):
        jnn.dag(2, 1, EDGES, ["tanh"] * 3)
    with pytest.raises(ValueError, match='"blocks", "sweep" or None'):
        inspect.unwrap(jnn.dag)(2, 1, EDGES, evaluation="fast")
    with pytest.raises(ValueError, match="at least 6 neurons"):
        jnn.dag(2, 1, EDGES, neurons=5)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(1, 3), (2, 5), (3, 5), (4, 5)], "neurons 4 read nothing"),
        ([(1, 3), (2, 4), (3, 4), (2, 5), (3, 5)], "neurons 4 reach no output"),
        ([(1, 3), (3, 4), (2, 4), (1, 2 + 1 + 2)], "reach no output"),
    ],
)
def test_useless_neurons_are_warned_of(edges, message):
    with pytest.warns(UselessNeuronWarning, match=message):
        jnn.dag(2, 1, edges)


def test_constant_outputs_are_warned_of():
    with pytest.warns(UselessNeuronWarning, match="neurons 5 are outputs that read nothing"):
        network = jnn.dag(2, 2, [(1, 3), (2, 3), (3, 4)], neurons=6)
    assert network.hidden == 1


def test_what_is_named_is_counted():
    """How many more edges are as wrong as the first, and five useless neurons at most by number."""
    for edges, said in (
        ([(-1, 5), (3, 5), (-2, 5), (9, -3)], "the edge -1 → 5 (and 2 more)"),
        ([(4, 3), (1, 4), (3, 5), (4, 2)], "there is the edge 4 → 3 (and 1 more). There is no cycle"),
        ([*EDGES, (0, 2), (1, 2)], "there is the edge 0 → 2 (and 1 more)"),
        ([*EDGES, (4, 5)], "got 4 → 5 again"),
    ):
        with pytest.raises(ValueError, match=r"expected|but there") as caught:
            jnn.dag(2, 1, edges)
        assert said in str(caught.value)
        assert ("more)" in str(caught.value)) == ("more)" in said)
    with pytest.raises(ValueError, match=r"got the edge 3 → 4\. Make"):
        jnn.dag(1, 2, [(1, 2), (2, 3), (2, 4), (3, 4)])
    jnn.dag(1, 2, [(1, 2), (2, 3), (2, 4)])  # the last hidden neuron is none
    for useless, named in ((5, "neurons 2, 3, 4, 5, 6 read nothing"), (6, "neurons 2, 3, 4, 5, 6, ... read nothing")):
        last = 2 + useless
        with pytest.warns(UselessNeuronWarning) as caught:
            jnn.dag(1, 1, [(1, last), *((j, last) for j in range(2, last))])
        assert [str(each.message).split(":")[0] for each in caught] == [named]


def test_numbers_may_be_given_where_edges_do_not_show_them():
    with pytest.warns(UselessNeuronWarning):
        network = jnn.dag(1, 1, [(1, 2), (2, 4)], neurons=5)
    assert (network.hidden, network.outputs) == (2, 1)
    assert jnn.dag(2, 1, EDGES, neurons=6) == jnn.dag(2, 1, EDGES)
    assert jnn.dag(1, 1, [(1, 2)]).hidden == 0
    with pytest.warns(UselessNeuronWarning, match="neurons 2 are outputs that read nothing"):
        assert jnn.dag(1, 1, []).weight_count == 1
    graph = nx.DiGraph([(1, 3)])
    graph.add_node(4)
    with pytest.warns(UselessNeuronWarning):
        assert jnn.dag(1, 1, graph).hidden == 2


def test_a_cycle_begins_at_its_lowest_neuron():
    with pytest.raises(ValueError, match=r"cycle, 2 → (3 → 4|4 → 3) → 2;"):
        jnn.dag(1, 1, [(1, 3), (3, 4), (4, 2), (2, 3), (4, 5)])


def test_bias_edges_may_lead_to_outputs_and_hidden_neurons_alone():
    assert jnn.dag(2, 1, [*EDGES, (0, 3), (0, 5)]).biased.tolist() == [True, False, True]
