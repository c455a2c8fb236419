Feature: Checkout

  @REQ-1
  Scenario: A large order is cheaper
    Given a customer who is no member
    When she orders 11 things
    Then she pays 5 percent less

  @REQ-2
  Scenario: A coupon is fast
    Given a coupon
    When it is entered
    Then the price is updated quickly
