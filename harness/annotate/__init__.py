"""Blind comparison of two models' answers by people."""
